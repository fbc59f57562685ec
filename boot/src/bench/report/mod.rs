//! What people read: [`plot`]s of the [`families`] of figures, and the tables of BENCHMARKS.md.
//!
//! The page is written by hand but for what stands between marks, so that no figure in it is ever typed:
//!
//! ```text
//! <!-- figures FILE FAMILY -->
//! <!-- losses FILE -->
//! <!-- commands MODE -->
//! <!-- end -->
//! ```
//!
//! `FILE` is a file of `--json`, by its path from the page. The first mark gets a table and the plot of a family, the second a
//! table of what the peer does better, the third QEMU's command lines of both sides in a mode.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::bench::args::{BenchOptions, Part};
use crate::bench::peer::guest::Guest;
use crate::bench::row::{self, Row};
use crate::error::Error;
use crate::qemu::{self, Files};

pub mod families;
pub mod marks;
pub mod plot;
pub mod table;

use families::FAMILIES;
use marks::Mark;

/// Options about what is shown besides the table.
#[derive(Clone, Debug, Args)]
pub struct ReportOptions {
    /// Draw an SVG file for each family of figures in DIR.
    #[arg(long, value_name = "DIR")]
    pub plot: Option<PathBuf>,
    /// Measure nothing; write the tables and plots of PAGE anew, from the files that its marks name.
    #[arg(long, value_name = "PAGE")]
    pub report: Option<PathBuf>,
}

/// Draws the plots of some rows in a folder.
///
/// # Errors
///
/// [`Error::Io`] if a file cannot be written, [`Error::Plot`] if one cannot be drawn.
pub fn plots(folder: &Path, rows: &[Row]) -> Result<(), Error> {
    for mode in families::modes(rows) {
        let of_mode: Vec<&Row> = rows.iter().filter(|row| row.mode == mode).collect();
        for family in &FAMILIES {
            draw(folder, family.name, &family.of(&of_mode))?;
        }
    }
    Ok(())
}

/// Draws a family of one mode, a file for each unit, and gives the names of the files.
fn draw(folder: &Path, family: &str, rows: &[&Row]) -> Result<Vec<String>, Error> {
    let mut files = Vec::new();
    for unit in families::units(rows) {
        let of_unit: Vec<&Row> = rows.iter().copied().filter(|row| row.unit == unit).collect();
        let Some(first) = of_unit.first() else { continue };
        let title = format!("{family}, {}: {unit}", first.mode);
        let name = format!("{}-{family}-{unit}.svg", first.mode).replace([' ', '/'], "-");
        let text = plot::svg(&title, &of_unit).map_err(Error::Plot)?;
        fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
        let file = folder.join(&name);
        fs::write(&file, text).map_err(Error::io("write", &file))?;
        files.push(name);
    }
    Ok(files)
}

/// Writes the marked parts of a page anew, and the plots into the folder of the figures.
///
/// # Errors
///
/// [`Error::Usage`] for a mark that makes no sense; otherwise as [`plots`].
pub fn write(page: &Path, options: &BenchOptions) -> Result<(), Error> {
    let text = fs::read_to_string(page).map_err(Error::io("read", page))?;
    let folder = page.parent().unwrap_or(Path::new(""));
    let new = marks::replace(&text, |mark| content(folder, mark, options))
        .map_err(|error| Error::Usage(format!("{}: {error}", page.display())))?;
    fs::write(page, new).map_err(Error::io("write", page))
}

fn content(folder: &Path, mark: &Mark<'_>, options: &BenchOptions) -> Result<String, String> {
    match *mark {
        Mark::Commands { mode } => commands(options, mode),
        Mark::Losses { file } => {
            let rows = read(&folder.join(file))?;
            Ok(table::losses(&rows.iter().collect::<Vec<_>>()))
        }
        Mark::Figures { file, family } => {
            let found = FAMILIES.iter().find(|known| known.name == family).ok_or_else(|| {
                let known: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
                format!("unknown family `{family}`; known are {}", known.join(", "))
            })?;
            let path = folder.join(file);
            let rows = read(&path)?;
            let rows = found.of(&rows.iter().collect::<Vec<_>>());
            let drawn =
                draw(path.parent().unwrap_or(folder), family, &rows).map_err(|error| error.to_string())?;
            let beside = Path::new(file).parent().unwrap_or(Path::new(""));
            let link = |plot: &String| format!("\n![{family}]({})\n", beside.join(plot).display());
            Ok(table::markdown(&rows) + &drawn.iter().map(link).collect::<String>())
        }
    }
}

fn read(file: &Path) -> Result<Vec<Row>, String> {
    row::read(file).map_err(|error| error.to_string())
}

/// What is typed to boot both sides in a mode, with short names of files.
fn commands(options: &BenchOptions, mode: &str) -> Result<String, String> {
    let options = BenchOptions { mode: mode.parse()?, ..options.clone() };
    let machine = options.machine(Part::Most).map_err(|error| error.to_string())?;
    let files = Files {
        image: "figures.img".into(),
        ovmf: None,
        reset_log: "reset.log".into(),
        firmware_log: "firmware.log".into(),
    };
    let ours = qemu::arguments(&machine.machine, &files, None, &machine.raw);
    let peer = Guest { kernel: "vmlinuz".into(), initramfs: "initramfs.cpio".into() };
    let theirs = peer.arguments(&options, &machine);
    let line = |words: &[OsString]| {
        let words = words.iter().map(|word| word.to_string_lossy());
        words
            .map(|word| if word.contains(' ') { format!("\"{word}\"") } else { word.into() })
            .collect::<Vec<_>>()
    };
    let text = |words: &[OsString]| format!("qemu-system-x86_64 {}", line(words).join(" "));
    Ok(format!(
        "```sh\n# gzero, which is told {}\n{}\n# Go\n{}\n```",
        machine.args,
        text(&ours),
        text(&theirs)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::tests::row;

    const PAGE: &str = "# Figures\n\n<!-- figures f/a.json channels -->\nold\n<!-- end -->\nby hand\n\
                        <!-- losses f/a.json -->\n<!-- end -->\n<!-- commands smp 2 -->\n<!-- end -->\n";

    fn write(page: &Path) -> Result<(), Error> {
        super::write(page, &BenchOptions::parse_line(["boot", "image", "--bench"]).expect("a good line"))
    }

    fn page(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut rows = [row("chan_pingpong", 2, 30.0), row("yield", 2, 5.0), row("select_2", 2, 9.0)];
        (rows[0].peer, rows[1].peer) = (Some(300.0), Some(4.0));
        fs::create_dir(folder.path().join("f")).expect("a folder");
        row::write(&folder.path().join("f/a.json"), &rows).expect("a file");
        let page = folder.path().join("PAGE.md");
        fs::write(&page, text).expect("a file");
        (folder, page)
    }

    #[test]
    fn marked_parts_are_made_from_the_file_and_the_rest_stays() {
        let (folder, page) = page(PAGE);
        write(&page).expect("a page");
        let text = fs::read_to_string(&page).expect("a page");
        let parts: Vec<&str> = text.split("<!-- ").collect();
        assert_eq!(parts.len(), 7, "{text}");
        assert!(parts[1].contains("`chan_pingpong`") && parts[1].contains("`select_2`"), "{text}");
        assert!(!parts[1].contains("yield") && !parts[1].contains("old"), "{text}");
        assert!(parts[1].contains("![channels](f/smp-2-channels-ns-op.svg)"), "{text}");
        assert!(parts[2].ends_with("by hand\n") && parts[3].contains("`yield`"), "{text}");
        assert_eq!(parts[5].matches(" -smp 2 ").count(), 2, "{text}");
        assert!(folder.path().join("f/smp-2-channels-ns-op.svg").exists());
        write(&page).expect("a page");
        assert_eq!(fs::read_to_string(&page).expect("a page"), text, "a second time changes nothing");
    }

    #[test]
    fn a_mark_that_makes_no_sense_is_named() {
        for (text, word) in [
            (PAGE.replace("channels", "canals"), "`canals`"),
            (PAGE.replace("f/a.json", "f/b.json"), "f/b.json"),
            (PAGE.replace("smp 2", "smp many"), "`many`"),
        ] {
            let (_folder, page) = page(&text);
            let error = write(&page).expect_err("a bad mark").to_string();
            assert!(error.contains(word) && error.contains("PAGE.md"), "{error}");
            assert_eq!(fs::read_to_string(&page).expect("a page"), text, "the page is as it was");
        }
    }
}
