//! Groups of real phones on one machine: real processes, real models, real sockets.
//!
//! | room | what it promises |
//! | --- | --- |
//! | [`exactness`] | a group writes what plain llama.cpp writes, token for token |
//! | [`any_phone`] | whichever phone is asked, by whomever, the answer is the same |
//! | [`bad_input`] | what cannot work says so, once, with an exit status |
//! | [`plan`] | who would run what is told as a table and as JSON, with what is in the way |
//! | [`shards`] | what is missing or damaged is mended or fetched, and never run |
//! | [`standing`] | every member knows of the others, and people change what is run while it runs |
//! | [`forming`] | two people compare a code, and only then are their phones a group |
//! | [`loss`] | a phone that is killed ends the answer with a clear word, and the others go on |
//! | [`hostile`] | strangers, and who was removed, get nothing, and cost little |
//! | [`interrupt`] | Ctrl-C and a killed parent leave nothing behind |
//!
//! | tool | what it is for |
//! | --- | --- |
//! | [`program`] | one running `lingualinked`, its lines, its end |
//! | [`group`] | several `lingualinked node` joined in a ring |
//! | [`models`] | real models, tiny random ones, and plain llama.cpp to compare with |
//! | [`stranger`] | a peer that says what it likes |
//! | [`scratch`] | a folder of a test's own, and which processes and files are left in it |
//!
//! The real models lie in `LINGUALINKED_MODELS`, by default `~/.cache/lingualinked/models`. A test whose
//! model is not there is reported as ignored, with the file that it lacks; under `CI=true` it fails.
//! `LINGUALINKED` names a program to test in place of the one just built, such as a packaged one.

// A failed expectation is what a test is for.
#![allow(clippy::unwrap_used)]

mod any_phone;
mod bad_input;
mod exactness;
mod forming;
mod group;
mod hostile;
mod interrupt;
mod loss;
mod models;
mod plan;
mod program;
mod scratch;
mod shards;
mod standing;
mod stranger;

use libtest_mimic::{Arguments, Trial};

/// Tests at once. Each has several processes that compute with one thread each; more tests than the two
/// cores of a small machine would only wait for each other.
const TEST_THREADS: usize = 2;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(TEST_THREADS);

    let rooms = [
        exactness::trials(),
        any_phone::trials(),
        bad_input::trials(),
        plan::trials(),
        shards::trials(),
        standing::trials(),
        forming::trials(),
        loss::trials(),
        hostile::trials(),
        interrupt::trials(),
    ];
    let trials = rooms.into_iter().flatten().collect::<Vec<Trial>>();

    libtest_mimic::run(&arguments, trials).exit();
}
