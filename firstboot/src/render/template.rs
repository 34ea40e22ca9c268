//! A template, and what it says about the file that it renders to.
//!
//! It begins with a comment that is TOML ([`Header`]):
//!
//! ```text
//! {#
//! mode = "0600"                             # of the file [default: 0644]
//! link = true                               # a link, and what is rendered is where it leads
//! reload = ["systemd-networkd.service"]     # units that read the file: reloaded, or else restarted, when it changes
//! #}
//! [Match]
//! Name={{ network.interface_name }}
//! ```

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use tera::Tera;

use super::{Content, SUFFIX, TEMPLATES, Values, Wanted};
use crate::settings::{FULL_EXAMPLE, Settings};
use crate::toml_file;

const MODE: u32 = 0o644;

/// All templates of an image.
#[derive(Debug, Clone)]
pub struct Templates(Vec<Template>);

#[derive(Debug, Clone)]
struct Template {
    /// Path of the file that it renders to.
    path: PathBuf,
    header: Header,
    source: String,
}

/// What precedes a template.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Header {
    mode: Option<String>,
    link: bool,
    reload: Vec<String>,
}

impl Templates {
    /// Those of the system below `root`.
    ///
    /// # Errors
    /// One of them cannot be read, or is damaged.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let (folder, mut templates) = (root.join(TEMPLATES), Vec::new());
        for path in files_below(&folder).with_context(|| format!("listing {}", folder.display()))? {
            let name = path.strip_prefix(&folder)?.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            let name = name.with_context(|| format!("{} is no template", path.display()))?;
            templates.push(Template::parse(name, &fs_err::read_to_string(&path)?)?);
        }
        Ok(Self(templates))
    }

    /// Renders all of them.
    ///
    /// # Errors
    /// A template has a mistake.
    pub fn render(&self, values: &Values) -> anyhow::Result<Vec<Wanted>> {
        let context = tera::Context::from_serialize(values)?;
        self.0.iter().map(|template| template.render(&context)).collect()
    }
}

/// Whether the template of the file `path` (`etc/hostname`) works: it is rendered with the least settings and with all.
///
/// # Errors
/// It does not.
pub fn check(path: &str, text: &str) -> anyhow::Result<()> {
    let template = Template::parse(path, text)?;
    template.mode()?;
    let tera = template.engine()?;
    for name in tera.get_template_variables(path)? {
        let tables = Values::NAMES.join(", ");
        ensure!(Values::NAMES.contains(&name), "there are no settings `{name}`; there are {tables}");
    }
    // What marks a value as safe could break out of its line.
    ensure!(!template.source.contains("safe"), "a template must not use the filter `safe`");
    for settings in ["schema = 1\n", &FULL_EXAMPLE] {
        let settings = Settings::parse(settings, "nas.toml")?;
        template.render(&tera::Context::from_serialize(&Values::from(&settings))?)?;
    }
    Ok(())
}

impl Template {
    fn parse(name: &str, text: &str) -> anyhow::Result<Self> {
        let header = text.strip_prefix("{#").and_then(|rest| rest.split_once("#}"));
        let (header, source) = header.with_context(|| format!("{name}: the template does not begin with {{# … #}}"))?;
        let header = toml_file::parse(header, name)?;
        Ok(Self {
            path: Path::new("/").join(name),
            header,
            source: source.strip_prefix('\n').unwrap_or(source).to_owned(),
        })
    }

    fn name(&self) -> &str {
        self.path.to_str().unwrap_or_default().trim_start_matches('/')
    }

    fn mode(&self) -> anyhow::Result<u32> {
        let Some(text) = &self.header.mode else { return Ok(MODE) };
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 && text.len() == 4 => Ok(mode),
            _ => bail!("{}: `{text}` is no mode; write it as \"0600\"", self.name()),
        }
    }

    fn engine(&self) -> anyhow::Result<Tera> {
        let mut tera = Tera::default();
        // Every name ends like this one: all values are escaped.
        tera.autoescape_on([""]);
        tera.set_escape_fn(on_one_line);
        tera.add_raw_template(self.name(), &self.source).with_context(|| self.name().to_owned())?;
        Ok(tera)
    }

    fn render(&self, context: &tera::Context) -> anyhow::Result<Wanted> {
        let text = self.engine()?.render(self.name(), context).with_context(|| format!("rendering {}", self.name()))?;
        let content = match text.trim() {
            "" => None,
            target if self.header.link => Some(Content::Link { target: target.into() }),
            _ => Some(Content::File { text, mode: self.mode()? }),
        };
        Ok(Wanted { path: self.path.clone(), content, reload: self.header.reload.clone() })
    }
}

/// Writes a value without what would end its line.
fn on_one_line(value: &str, out: &mut dyn io::Write) -> io::Result<()> {
    // Besides ASCII's: U+0085, and what some programs take for the end of a line or paragraph.
    let ends = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    out.write_all(value.replace(ends, " ").as_bytes())
}

/// All files below a folder, sorted; none when there is no such folder.
fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => files.extend(files_below(&entry.path())?),
            false => files.push(entry.path()),
        }
    }
    files.sort();
    Ok(files)
}
