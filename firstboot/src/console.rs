//! The consoles of the machine: where somebody may be asked something.

use std::path::Path;

/// A console that the kernel writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Console {
    /// A screen with a keyboard: `tty1`.
    Screen(String),
    /// A serial line: `ttyS0`.
    Serial(String),
}

impl Console {
    /// Those of the system below `root`.
    pub fn all(root: &Path) -> Vec<Self> {
        let active = std::fs::read_to_string(root.join("sys/class/tty/console/active")).unwrap_or_default();
        active.split_whitespace().map(Self::of).collect()
    }

    fn of(name: &str) -> Self {
        match name {
            // The screen, whichever terminal is shown on it.
            "tty0" => Self::Screen("tty1".to_owned()),
            screen if screen.strip_prefix("tty").is_some_and(|rest| rest.parse::<u8>().is_ok()) => {
                Self::Screen(screen.to_owned())
            }
            serial => Self::Serial(serial.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn screens_and_serial_lines_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        assert!(Console::all(root.path()).is_empty());
        let folder = root.path().join("sys/class/tty/console");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("active"), "ttyS0 tty0 tty2\n").unwrap();
        let screen = |name: &str| Console::Screen(name.to_owned());
        assert_eq!(Console::all(root.path()), [Console::Serial("ttyS0".to_owned()), screen("tty1"), screen("tty2")]);
    }
}
