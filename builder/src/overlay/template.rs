//! Renders one tera template; whatever is undefined is an error with file and line.
//!
//! Nothing is escaped: tera's escaping is for HTML, and what quoting a unit or a configuration file
//! needs depends on the file.

use anyhow::Result;
use tera::{Context, ErrorKind, Tera};

use super::Variables;
use crate::report::Mistake;
use crate::suggest::nearest;

/// Renders the template that is called `origin` in messages.
pub(super) fn render(template: Vec<u8>, origin: &str, variables: &Variables) -> Result<String> {
    let source =
        String::from_utf8(template).map_err(|_| Mistake::new(format!("{origin}: a template must be UTF-8")))?;
    let mut tera = Tera::default();
    tera.autoescape_on(Vec::<&str>::new());
    tera.add_raw_template(origin, &source).map_err(|error| mistake(&error, origin))?;
    check_defined(&tera, &source, origin, variables)?;
    let context = Context::from_serialize(variables).map_err(|error| mistake(&error, origin))?;
    tera.render(origin, &context).map_err(|error| mistake(&error, origin).into())
}

/// Refuses a template for the appliance, at the path `below` of the image, that it could not render.
pub(super) fn check(template: &[u8], below: &str, origin: &str) -> Result<()> {
    let source = str::from_utf8(template).map_err(|_| Mistake::new(format!("{origin}: a template must be UTF-8")))?;
    let target = below.strip_prefix(firstboot::render::TEMPLATES).unwrap_or(below);
    let target = target.trim_start_matches('/').trim_end_matches(firstboot::render::SUFFIX);
    Ok(firstboot::render::check(target, source)
        .map_err(|error| Mistake::new(format!("{origin}: the appliance cannot render this template")).because(error))?)
}

/// tera lets an undefined variable pass where it is only tested (`{% if typo %}`): that would leave out
/// a part of a file silently.
fn check_defined(tera: &Tera, source: &str, origin: &str, variables: &Variables) -> Result<()> {
    let used = tera.get_template_variables(origin).map_err(|error| mistake(&error, origin))?;
    let mut undefined: Vec<&str> = used.into_iter().filter(|name| !variables.contains_key(*name)).collect();
    undefined.sort_unstable();
    let Some(name) = undefined.first() else { return Ok(()) };
    let names_it = |line: &str| words(line).any(|word| word == *name);
    let in_tag = source.lines().position(|line| (line.contains("{{") || line.contains("{%")) && names_it(line));
    // A tag may spread over several lines.
    let line = in_tag.or_else(|| source.lines().position(names_it)).map_or(1, |index| index + 1);
    Err(undefined_variable(&format!("{origin}:{line}"), name, variables).into())
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
}

fn undefined_variable(place: &str, name: &str, variables: &Variables) -> Mistake {
    let mistake = Mistake::new(format!("{place}: variable `{name}` is not defined"));
    let alike = nearest(name, variables.keys().map(String::as_str));
    match alike.as_slice() {
        [] => mistake.hint("set it in the profile's [variables]"),
        alike => mistake.hint(format!("did you mean {}? else set it in the profile's [variables]", alike.join(" or "))),
    }
}

fn mistake(error: &tera::Error, origin: &str) -> Mistake {
    match error.kind() {
        ErrorKind::SyntaxError(report) | ErrorKind::RenderingError(report) => {
            Mistake::new(format!("{origin}:{}: {}", report.span().start_line, report.message()))
        }
        other => Mistake::new(format!("{origin}: {other}")),
    }
}
