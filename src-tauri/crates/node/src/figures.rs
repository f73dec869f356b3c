//! What was measured, kept from one start to the next: a file for each model and device.
//!
//! The name of a file is the hash of the model's sample, and it says which device it was measured
//! on: a folder may be copied to another. Ages go on while nobody looks. A file that cannot be read,
//! or is of another device, is as good as none: the phone measures itself again.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use gguf_tools::ModelHash;
use proto::profile::Profile;
use serde::{Deserialize, Serialize};

use crate::measure;

/// Folder of the figures within a phone's data folder.
const FIGURES_FOLDER: &str = "figures";

/// Bytes of a file, at most: ours have 2 kB.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// How long figures hold: a day, after which a phone measures itself again when it has the time. A
/// guess: systems are updated, and summers come, more slowly.
pub const FRESH: Duration = Duration::from_secs(24 * 3600);

/// A phone's figures on disk.
#[derive(Debug)]
pub struct Figures {
    folder: PathBuf,
    device: String,
}

/// A file.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// What it was measured on.
    device: String,
    /// Seconds since 1970 at which it was written.
    written_s: u64,
    profile: Profile,
}

impl Figures {
    /// Keeps figures in a phone's data folder.
    pub fn new(data_folder: &Path) -> Self {
        Self {
            folder: data_folder.join(FIGURES_FOLDER),
            device: device_name(),
        }
    }

    /// Returns what was measured on this device with a sample, as old as it is; `None` if nothing
    /// was.
    pub fn load(&self, sample: ModelHash) -> Option<Profile> {
        let path = self.path(sample);
        let kept = read(&path)
            .inspect_err(|error| {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::debug!(path = %path.display(), %error, "Figures cannot be read");
                }
            })
            .ok()?;
        let is_ours = kept.device == self.device && kept.profile.validate(sample).is_ok();

        is_ours.then(|| {
            let age = Duration::from_secs(now_s().saturating_sub(kept.written_s));
            kept.profile.aged(age)
        })
    }

    /// Keeps what was measured on this device.
    ///
    /// # Errors
    ///
    /// What the file system returns. What was kept before stays then.
    pub fn save(&self, profile: &Profile) -> io::Result<()> {
        let kept = Kept {
            device: self.device.clone(),
            written_s: now_s(),
            profile: profile.clone(),
        };
        fs::create_dir_all(&self.folder)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        serde_json::to_writer_pretty(&mut file, &kept)?;
        file.flush()?;
        file.persist(self.path(profile.sample))?;

        Ok(())
    }

    fn path(&self, sample: ModelHash) -> PathBuf {
        self.folder.join(format!("{sample}.json"))
    }
}

fn read(path: &Path) -> io::Result<Kept> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }

    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Names this device by what its speed depends on, and the program, which may have become quicker.
fn device_name() -> String {
    let mut system = sysinfo::System::new().ok();
    if let Some(system) = &mut system {
        system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
    }
    let cpus = system.as_ref().map_or(&[][..], |system| system.cpus());
    let brand = cpus.first().map_or("unknown", |cpu| cpu.brand());

    format!(
        "{brand}, {} cores, {}, version {}",
        measure::n_cores(),
        std::env::consts::ARCH,
        env!("CARGO_PKG_VERSION")
    )
}

/// Seconds since 1970; 0 on a device that thinks it is earlier.
fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);

    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use proto::profile::{Curve, Figure, Pace, Share};

    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let figures = Figures::new(folder.path());
        let profile = profile();
        assert_eq!(figures.load(profile.sample), None);

        figures.save(&profile).expect("there is room for a file");

        let back = figures.load(profile.sample).expect("it was kept");
        assert_eq!(back.decode_s.at(64), profile.decode_s.at(64));
        assert!(back.logits_s.age() < Duration::from_secs(60));
        assert_eq!(figures.load(ModelHash::of(b"another")), None);
    }

    #[test]
    fn what_is_kept_comes_back_to_the_bit() {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let figures = Figures::new(folder.path());
        let mut profile = profile();

        for n in 1..=200 {
            let value = f64::from(n) / 878_297.0;
            profile.logits_s = Figure::new(value, 0.0).expect("a sound number");
            figures.save(&profile).expect("there is room for a file");

            let back = figures.load(profile.sample).expect("it was kept");
            assert_eq!(back.logits_s.value().to_bits(), value.to_bits(), "{value}");
        }
    }

    #[test]
    fn figures_age_on_disk_and_those_of_another_device_are_none() {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let figures = Figures::new(folder.path());
        let profile = profile();
        figures.save(&profile).expect("there is room for a file");
        let path = figures.path(profile.sample);
        let text = fs::read_to_string(&path).expect("it was written");
        let mut json = serde_json::from_str::<serde_json::Value>(&text).expect("it is JSON");

        json["written_s"] = (now_s() - 7200).into();
        fs::write(&path, json.to_string()).expect("it is ours");
        let old = figures.load(profile.sample).expect("old, but ours");
        assert!(old.logits_s.age() >= Duration::from_secs(7200));

        json["device"] = "another".into();
        fs::write(&path, json.to_string()).expect("it is ours");
        assert_eq!(figures.load(profile.sample), None);
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let figures = Figures::new(folder.path());
        let profile = profile();
        figures.save(&profile).expect("there is room for a file");
        let path = figures.path(profile.sample);
        let text = fs::read_to_string(&path).expect("it was written");

        for end in (0..text.len()).step_by(7) {
            fs::write(&path, &text[..end]).expect("it is ours");
            assert_eq!(figures.load(profile.sample), None, "{end}");
        }
        fs::write(&path, text.replace("\"value\": 0.001", "\"value\": -0.001")).expect("ours");
        assert_eq!(figures.load(profile.sample), None);
    }

    fn profile() -> Profile {
        let figure = Figure::new(0.001, 0.0001).expect("a sound number");
        let curve = Curve {
            n_positions: [64, 1024],
            figures: [figure, figure],
        };

        Profile {
            sample: ModelHash::of(b"a sample"),
            n_threads: 2,
            decode_s: curve,
            prefill_s: curve,
            embed_s: figure,
            logits_s: figure,
            sample_s: figure,
            memory_bytes_per_s: figure,
            layers_repacked: Share::new(0.5),
            ends_repacked: Share::default(),
            pace: Pace::UNKNOWN,
        }
    }
}
