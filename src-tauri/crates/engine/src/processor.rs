//! What this phone's processor is: which of its cores are worth computing with, and whether it has the
//! instructions that llama.cpp was built with.
//!
//! Most phones have cores of two or three kinds. Every thread of a step waits for the slowest, so a small core
//! makes a step longer, not shorter.

use std::fs;
use std::path::Path;

/// Where Linux, and so Android, describes its cores.
const CORES: &str = "/sys/devices/system/cpu";

/// Part of the best core's capacity that a core must have, in percent. A guess: it is the most that is tried, and
/// [`profile`](crate::profile()) measures how many threads are best.
const CAPACITY_PERCENT: u64 = 50;

/// The same of its clock rate, where no capacity is told. A guess between what is told of big cores, 80 to 100, and of
/// small ones, 60 to 76: these also do less per tick.
const CLOCK_PERCENT: u64 = 78;

/// Cores that are counted at most: no phone has so many.
const CORES_MAX: usize = 512;

/// Architecture that llama.cpp's kernels were built for, in GCC's words: `armv8.2-a+dotprod+fp16`. The same
/// variable tells `llama-cpp-sys-2`.
const BUILT_FOR: Option<&str> = option_env!("GGML_CPU_ARM_ARCH");

/// The processor cannot run this build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this phone's processor is too old: it lacks {}, which this build of the app needs",
    missing.join(" and ")
)]
pub struct ProcessorError {
    missing: Vec<&'static str>,
}

/// Checks that the processor has the instructions that llama.cpp was built with. Without them the first step would
/// end the process.
///
/// # Errors
///
/// [`ProcessorError`] if it lacks one.
pub fn check_processor() -> Result<(), ProcessorError> {
    check(BUILT_FOR.unwrap_or_default(), has)
}

/// Returns the numbers of the cores that are worth computing with, where the system tells and they are not all alike.
pub fn fast_cores() -> Option<Vec<usize>> {
    fast_cores_in(Path::new(CORES))
}

/// Returns how many cores are worth computing with, of those that the system lets this process use.
pub fn n_fast_cores() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    let fast = crate::llama::n_performance_cores().or_else(|| Some(fast_cores()?.len()));

    fast.unwrap_or(allowed).clamp(1, allowed)
}

fn check(built_for: &str, has: impl Fn(&str) -> bool) -> Result<(), ProcessorError> {
    let wanted = ["dotprod", "fp16", "i8mm"];
    let built_for: Vec<_> = built_for.split('+').skip(1).collect();
    let missing = wanted.iter().copied();
    let missing: Vec<_> = missing
        .filter(|feature| built_for.contains(feature) && !has(feature))
        .collect();

    match missing.is_empty() {
        true => Ok(()),
        false => Err(ProcessorError { missing }),
    }
}

/// Asks the system, which has it from the processor: HWCAP's `asimddp`, `asimdhp` and `i8mm`.
#[cfg(target_arch = "aarch64")]
fn has(feature: &str) -> bool {
    match feature {
        "dotprod" => std::arch::is_aarch64_feature_detected!("dotprod"),
        "fp16" => std::arch::is_aarch64_feature_detected!("fp16"),
        "i8mm" => std::arch::is_aarch64_feature_detected!("i8mm"),
        _ => false,
    }
}

/// The variable is only for ARM: elsewhere llama.cpp does not read it.
#[cfg(not(target_arch = "aarch64"))]
fn has(_: &str) -> bool {
    true
}

fn fast_cores_in(folder: &Path) -> Option<Vec<usize>> {
    let cores = cores(folder);
    let capacities = tell(folder, &cores, "cpu_capacity").map(|told| (told, CAPACITY_PERCENT));
    let clocks = || tell(folder, &cores, "cpufreq/cpuinfo_max_freq");
    // Capacities are told alike where nobody measured them: then the clocks may still differ.
    let (told, percent) = capacities
        .filter(|(told, _)| told.iter().min() != told.iter().max())
        .or_else(|| Some((clocks()?, CLOCK_PERCENT)))?;

    let limit = told.iter().max()?.checked_mul(percent)?;
    let is_fast =
        |(core, told): (usize, u64)| Some(core).filter(|_| told.saturating_mul(100) >= limit);
    let fast: Vec<_> = cores
        .iter()
        .copied()
        .zip(told)
        .filter_map(is_fast)
        .collect();
    (fast.len() < cores.len()).then_some(fast)
}

/// Returns the numbers of all cores, in order.
fn cores(folder: &Path) -> Vec<usize> {
    let number = |entry: fs::DirEntry| {
        entry
            .file_name()
            .to_str()?
            .strip_prefix("cpu")?
            .parse()
            .ok()
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();

    let mut cores: Vec<usize> = entries.filter_map(number).collect();
    cores.retain(|core| *core < CORES_MAX);
    cores.sort_unstable();
    cores
}

/// Returns what each core says of itself in such a file, if all do.
fn tell(folder: &Path, cores: &[usize], file: &str) -> Option<Vec<u64>> {
    let told = cores.iter().map(|core| {
        let path = folder.join(format!("cpu{core}")).join(file);
        fs::read_to_string(path).ok()?.trim().parse().ok()
    });

    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: &str = "cpu_capacity";
    const CLOCK: &str = "cpufreq/cpuinfo_max_freq";

    #[test]
    fn small_cores_are_left_out() {
        let cases: [(&str, &[u64], &[usize]); 4] = [
            (
                CAPACITY,
                &[124, 124, 124, 124, 427, 427, 1024, 1024],
                &[6, 7],
            ),
            (
                CLOCK,
                &[
                    1785600, 1785600, 1785600, 1785600, 2496000, 2496000, 2496000, 2995200,
                ],
                &[4, 5, 6, 7],
            ),
            (
                CLOCK,
                &[
                    1804800, 1804800, 1804800, 1804800, 1804800, 1804800, 2208000, 2400000,
                ],
                &[6, 7],
            ),
            (
                CAPACITY,
                &[381, 381, 381, 381, 381, 381, 1024, 1024],
                &[6, 7],
            ),
        ];

        for (file, told, fast) in cases {
            let tree = tree(file, told);
            assert_eq!(
                fast_cores_in(tree.path()).as_deref(),
                Some(fast),
                "{told:?}"
            );
        }
    }

    #[test]
    fn cores_that_are_alike_are_all_used() {
        assert_eq!(fast_cores_in(tree(CLOCK, &[3_000_000; 4]).path()), None);
        assert_eq!(fast_cores_in(tree(CAPACITY, &[1024; 4]).path()), None);
    }

    #[test]
    fn clocks_count_where_capacities_say_nothing() {
        let tree = tree(CAPACITY, &[1024, 1024]);
        write(tree.path(), CLOCK, &[1_000_000, 2_000_000]);

        assert_eq!(fast_cores_in(tree.path()), Some(vec![1]));
    }

    #[test]
    fn what_cannot_be_read_is_no_reason_to_leave_a_core_out() {
        let nowhere = Path::new("/nowhere");
        let broken = tree(CLOCK, &[1_000_000, 2_000_000]);
        fs::write(broken.path().join("cpu1").join(CLOCK), "fast").expect("it is ours");
        let huge = tree(CAPACITY, &[1, u64::MAX]);

        assert_eq!(fast_cores_in(nowhere), None);
        assert_eq!(fast_cores_in(broken.path()), None);
        assert_eq!(fast_cores_in(huge.path()), None);
        assert!(n_fast_cores() >= 1);
    }

    #[test]
    fn a_build_asks_for_what_it_was_built_with() {
        let none = |_: &str| false;
        let lacks = |error: ProcessorError| error.missing;

        let check = |built_for, has: fn(&str) -> bool| check(built_for, has).map_err(lacks);

        assert_eq!(check("", none), Ok(()));
        assert_eq!(check("armv8-a", none), Ok(()));
        let ours = "armv8.2-a+dotprod+fp16";
        assert_eq!(check(ours, none), Err(vec!["dotprod", "fp16"]));
        assert_eq!(check(ours, |f| f == "dotprod"), Err(vec!["fp16"]));
        assert_eq!(check(ours, |f| f != "i8mm"), Ok(()));
        assert_eq!(check_processor(), Ok(()));
    }

    fn tree(file: &str, told: &[u64]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("there is room");
        // Entries that are no cores.
        fs::create_dir(folder.path().join("cpufreq")).expect("it is empty");
        fs::create_dir(folder.path().join("cpuidle")).expect("it is empty");
        write(folder.path(), file, told);
        folder
    }

    fn write(folder: &Path, file: &str, told: &[u64]) {
        for (core, told) in told.iter().enumerate() {
            let path = folder.join(format!("cpu{core}")).join(file);
            fs::create_dir_all(path.parent().expect("it has one")).expect("it is ours");
            fs::write(path, format!("{told}\n")).expect("it is ours");
        }
    }
}
