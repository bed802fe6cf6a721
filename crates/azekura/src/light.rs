//! The light that shows a person which disk is meant: of a SCSI enclosure's slot (SES, the kernel's `enclosure` class), or of a PCI
//! Express slot (NPEM, PCIe base specification 6.1 section 6.28, the kernel's LED class).
//!
//! Invariants
//! - Only the light of the disk's own slot is switched; where the kernel says of none, there is none.

use std::path::{Path, PathBuf};

/// Kernel's name of the LED of a slot that shows where it is.
const SLOT_LED: &str = ":enclosure:locate";

/// The file that says whether the light of a disk is on, and switches it. `whole` is the kernel's directory of the whole disk, such as
/// `/sys/dev/block/8:16`.
pub fn file_of(whole: &Path) -> Option<PathBuf> {
    let device = whole.join("device").canonicalize().ok()?;
    in_enclosure(&device).or_else(|| controllers(&device).iter().find_map(|one| in_slot(one)))
}

/// Whether a light is on, as its file says.
pub fn is_on(file: &Path) -> Option<bool> {
    let text = std::fs::read_to_string(file).ok()?;
    text.trim().parse::<u32>().ok().map(|value| value > 0)
}

/// Switches a light. Safe to repeat.
///
/// # Errors
/// For people.
pub fn switch(file: &Path, on: bool) -> Result<(), String> {
    let word = if on { "1" } else { "0" };
    let what = || format!("the light at {} cannot be switched", file.display());
    std::fs::write(file, word).map_err(|error| format!("{}: {error}", what()))?;
    match is_on(file) == Some(on) {
        true => Ok(()),
        false => Err(format!(
            "{}: the enclosure took the command and did nothing",
            what()
        )),
    }
}

/// The slot of a SCSI disk, which is linked to from it as `enclosure_device:NAME`.
fn in_enclosure(device: &Path) -> Option<PathBuf> {
    entries(device).into_iter().find_map(|entry| {
        let name = entry.file_name()?.to_str()?;
        let file = entry.join("locate");
        (name.starts_with("enclosure_device:") && file.exists()).then_some(file)
    })
}

/// The NVMe controllers of a disk: its own, or those of the subsystem it is a namespace of.
fn controllers(device: &Path) -> Vec<PathBuf> {
    let is_one = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix("nvme"));
        number.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    if is_one(device) {
        return vec![device.to_owned()];
    }
    let members = entries(device).into_iter().filter(|path| is_one(path));
    members
        .filter_map(|path| path.canonicalize().ok())
        .collect()
}

/// The light of the slot that a controller is in: of its own PCI function, or of the port above it.
fn in_slot(controller: &Path) -> Option<PathBuf> {
    let function = controller.join("device").canonicalize().ok()?;
    let port = function.parent();
    [Some(function.as_path()), port]
        .into_iter()
        .flatten()
        .find_map(|place| {
            let leds = entries(&place.join("leds"));
            let own = leds
                .into_iter()
                .find(|led| led.to_string_lossy().ends_with(SLOT_LED))?;
            Some(own.join("brightness"))
        })
}

/// What is in a directory, in the order of names; nothing, where it cannot be read.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<PathBuf> = found.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, remove_dir_all, write};
    use std::os::unix::fs::symlink;

    /// A folder that looks like the kernel's.
    struct Sys(PathBuf);

    impl Sys {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("light-{name}-{}", std::process::id()));
            create_dir_all(&path).unwrap();
            Self(path)
        }

        fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Sys {
        fn drop(&mut self) {
            drop(remove_dir_all(&self.0));
        }
    }

    #[test]
    fn a_scsi_disk_has_the_light_of_its_slot_and_no_other() {
        let sys = Sys::new("scsi");
        let slot = sys.path().join("enclosure/Slot 03");
        create_dir_all(&slot).unwrap();
        write(slot.join("locate"), "0\n").unwrap();
        let disk = sys.path().join("host0/target/0:0:3:0");
        let whole = disk.join("block/sdb");
        create_dir_all(&whole).unwrap();
        symlink("../..", whole.join("device")).unwrap();
        // A slot of a port that other disks hang off, too.
        let port = sys.path().join("host0/leds/0000:00:1c.0:enclosure:locate");
        create_dir_all(&port).unwrap();
        write(port.join("brightness"), "0\n").unwrap();
        assert_eq!(file_of(&whole), None);

        symlink(&slot, disk.join("enclosure_device:Slot 03")).unwrap();
        let light = file_of(&whole).unwrap();
        assert_eq!(is_on(&light), Some(false));
        switch(&light, true).unwrap();
        assert_eq!(is_on(&slot.join("locate")), Some(true));
        switch(&light, false).unwrap();
        assert_eq!(is_on(&light), Some(false));
    }

    #[test]
    fn a_namespace_has_the_light_of_the_slot_of_its_controller() {
        let sys = Sys::new("nvme");
        let function = sys.path().join("0000:00:1c.0/0000:02:00.0");
        let controller = function.join("nvme/nvme0");
        create_dir_all(&controller).unwrap();
        symlink("../..", controller.join("device")).unwrap();
        let own = controller.join("nvme0n1");
        create_dir_all(&own).unwrap();
        symlink("..", own.join("device")).unwrap();
        let subsystem = sys.path().join("nvme-subsys0");
        let shared = subsystem.join("nvme0n1");
        create_dir_all(&shared).unwrap();
        symlink("..", shared.join("device")).unwrap();
        symlink(&controller, subsystem.join("nvme0")).unwrap();
        assert_eq!((file_of(&own), file_of(&shared)), (None, None));

        let port = function.parent().unwrap();
        let led = port.join("leds/0000:00:1c.0:enclosure:locate");
        create_dir_all(&led).unwrap();
        write(led.join("brightness"), "1\n").unwrap();
        let lit = Some(true);
        assert_eq!(file_of(&own).and_then(|file| is_on(&file)), lit);
        assert_eq!(file_of(&shared).and_then(|file| is_on(&file)), lit);
    }

    #[test]
    fn a_light_that_does_not_obey_is_told_of() {
        let sys = Sys::new("gone");
        let gone = sys.path().join("none/locate");
        assert!(switch(&gone, true).unwrap_err().contains("locate"));
        assert_eq!(is_on(&gone), None);
    }
}
