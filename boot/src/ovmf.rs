//! Finds the UEFI firmware for virtual machines, OVMF.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// The firmware's two files: its code, and a fresh store of variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ovmf {
    /// Mapped read-only.
    pub code: PathBuf,
    /// To be copied: the firmware writes to it.
    pub vars: PathBuf,
}

/// Folders of Debian and Ubuntu, Fedora, Arch, openSUSE, and of Homebrew on both kinds of Mac.
const FOLDERS: [&str; 9] = [
    "/usr/share/OVMF",
    "/usr/share/edk2/ovmf",
    "/usr/share/edk2/x64",
    "/usr/share/edk2-ovmf/x64",
    "/usr/share/ovmf/x64",
    "/usr/share/qemu",
    "/opt/homebrew/share/qemu",
    "/usr/local/share/qemu",
    "/usr/share/edk2-ovmf",
];

/// Pairs of file names in these folders.
const PAIRS: [(&str, &str); 5] = [
    ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
    ("OVMF_CODE.4m.fd", "OVMF_VARS.4m.fd"),
    ("OVMF_CODE.fd", "OVMF_VARS.fd"),
    ("ovmf-x86_64-code.bin", "ovmf-x86_64-vars.bin"),
    ("edk2-x86_64-code.fd", "edk2-i386-vars.fd"),
];

/// Finds the firmware where `wish` (a folder or a code file) says, otherwise in the usual folders.
///
/// # Errors
///
/// [`Error::NoOvmf`] if there is none.
pub fn find(wish: Option<&Path>) -> Result<Ovmf, Error> {
    let found = match wish {
        Some(path) if path.is_dir() => in_folder(path),
        Some(path) => beside(path),
        None => FOLDERS.iter().find_map(|folder| in_folder(Path::new(folder))),
    };
    found.ok_or(Error::NoOvmf)
}

fn in_folder(folder: &Path) -> Option<Ovmf> {
    PAIRS.iter().find_map(|(code, vars)| both(folder.join(code), folder.join(vars)))
}

/// The store of variables that lies beside a given code file.
fn beside(code: &Path) -> Option<Ovmf> {
    let name = code.file_name()?.to_str()?;
    let known = PAIRS.iter().find(|(known, _)| *known == name).map(|(_, vars)| (*vars).to_owned());
    let vars = known.unwrap_or_else(|| name.replace("CODE", "VARS").replace("code", "vars"));
    (vars != name).then(|| both(code.to_owned(), code.with_file_name(vars)))?
}

fn both(code: PathBuf, vars: PathBuf) -> Option<Ovmf> {
    (code.is_file() && vars.is_file()).then_some(Ovmf { code, vars })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_folder_or_a_code_file_can_be_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        assert!(find(Some(folder.path())).is_err(), "an empty folder has no firmware");
        fs::write(path("OVMF_CODE.fd"), "").expect("written");
        assert!(find(Some(folder.path())).is_err(), "the variables are missing");
        fs::write(path("OVMF_VARS.fd"), "").expect("written");
        let wanted = Ovmf { code: path("OVMF_CODE.fd"), vars: path("OVMF_VARS.fd") };
        assert_eq!(find(Some(folder.path())).expect("found"), wanted);
        assert_eq!(find(Some(&path("OVMF_CODE.fd"))).expect("found"), wanted);
        assert!(find(Some(&path("OVMF_VARS.fd"))).is_err(), "variables are no code");
    }
}
