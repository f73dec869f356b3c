//! The store on real files.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // in a test it is the assertion; says what is skipped

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gguf_tools::{
    CHUNK_BYTES, ChunkHash, Cut, LayerRange, Shape, ShardEntry, ShardHash, ShardKind, Synth,
    TensorType,
};
use proto::PeerId;
use proto::transfer::{CHUNK_HEADER_BYTES, ChunkHeader, ChunkIndex, InEvent, StoreFailure};
use tempfile::TempDir;

use super::files::{part_path, whole_path};
use super::folder::{Finished, Folder, Limits, Opened, Written};
use super::reader::Reader;
use super::{Store, StoreEvent};

/// Sizes of a shard, around those where something changes.
const SHARD_BYTES: [u64; 5] = [
    24,
    CHUNK_BYTES - 1,
    CHUNK_BYTES,
    CHUNK_BYTES + 1,
    20 * CHUNK_BYTES + 5, // more than one sync
];

const ROOMY: Limits = Limits {
    quota_bytes: 1 << 40,
    spare_bytes: 0,
};

/// A shard of any bytes.
struct Shard {
    entry: ShardEntry,
    bytes: Vec<u8>,
}

#[test]
fn a_shard_written_in_any_order_is_there_whole() {
    for bytes in SHARD_BYTES {
        let (home, shard) = (TempDir::new().unwrap(), Shard::new(1, bytes));
        let mut folder = folder(home.path(), &[&shard]);

        assert_eq!(folder.begin(shard.hash()), Ok(shard.held(&[])));
        for chunk in shard.chunks().rev() {
            let written = folder.write(shard.hash(), chunk, shard.chunk(chunk));
            assert_eq!(written, Ok(Written::Verified));
        }

        assert_eq!(folder.finish(shard.hash()), Ok(Finished::Whole));
        assert_eq!(
            fs::read(whole_path(home.path(), shard.hash())).unwrap(),
            shard.bytes
        );
        assert_eq!(
            fs::read_dir(home.path()).unwrap().count(),
            1,
            "nothing else is left"
        );
        assert_eq!(folder.whole().unwrap().len(), 1);
    }
}

/// What is wrong, too long, too short, or of another place is not written.
#[test]
fn a_wrong_chunk_is_refused() {
    let (home, shard) = (TempDir::new().unwrap(), Shard::new(1, 2 * CHUNK_BYTES + 7));
    let mut folder = folder(home.path(), &[&shard]);
    folder.begin(shard.hash()).unwrap();
    let right = shard.chunk(ChunkIndex(0));
    let mut wrong = right.to_vec();
    wrong[77] ^= 1;

    for (chunk, bytes) in [
        (0, wrong.as_slice()),
        (0, &right[1..]),
        (0, &[]),
        (1, right),
        (2, right),
        (3, &[]),
        (u32::MAX, right),
    ] {
        let written = folder.write(shard.hash(), ChunkIndex(chunk), bytes);
        assert_eq!(written, Ok(Written::Corrupt));
    }
    assert_eq!(folder.begin(shard.hash()), Ok(shard.held(&[])));
}

/// Killed after any chunk, the store finds all that was written; the next to come is the first that lacks.
#[test]
fn a_killed_store_loses_nothing_that_was_written() {
    let (home, shard) = (TempDir::new().unwrap(), Shard::new(1, 20 * CHUNK_BYTES + 5));
    let mut written = Vec::new();

    for chunk in shard.chunks() {
        let mut folder = folder(home.path(), &[&shard]);
        assert_eq!(folder.begin(shard.hash()), Ok(shard.held(&written)));
        folder
            .write(shard.hash(), chunk, shard.chunk(chunk))
            .unwrap();
        written.push(chunk.0);
        std::mem::forget(folder); // as a killed app leaves it
    }

    let mut folder = folder(home.path(), &[&shard]);
    folder.begin(shard.hash()).unwrap();
    assert_eq!(folder.finish(shard.hash()), Ok(Finished::Whole));
}

/// A journal that claims too much, or a part that lost its end, as after a flat battery: only what is right counts.
#[test]
fn a_journal_is_believed_only_as_far_as_the_hashes_say() {
    let (home, shard) = (TempDir::new().unwrap(), Shard::new(1, 5 * CHUNK_BYTES + 5));
    let mut first = folder(home.path(), &[&shard]);
    first.begin(shard.hash()).unwrap();
    for chunk in [0, 1, 2, 4].map(ChunkIndex) {
        first
            .write(shard.hash(), chunk, shard.chunk(chunk))
            .unwrap();
    }
    drop(first);
    damage(&part_path(home.path(), shard.hash()), CHUNK_BYTES + 9);
    let journal = home.path().join(format!("{}.journal", shard.hash()));
    fs::write(&journal, [1; 1000]).unwrap();

    let mut second = folder(home.path(), &[&shard]);
    assert_eq!(second.begin(shard.hash()), Ok(shard.held(&[0, 2, 4])));
    drop(second);
    let part = OpenOptions::new()
        .write(true)
        .open(part_path(home.path(), shard.hash()));
    part.unwrap().set_len(CHUNK_BYTES + 1).unwrap();

    let mut third = folder(home.path(), &[&shard]);
    assert_eq!(third.begin(shard.hash()), Ok(shard.held(&[0])));
}

/// Damage between writing and finishing, and in a shard that is there: only the damaged chunk is lacking.
#[test]
fn damage_costs_only_the_chunk() {
    let (home, shard) = (TempDir::new().unwrap(), Shard::new(1, 3 * CHUNK_BYTES));
    let mut folder = folder(home.path(), &[&shard]);
    folder.begin(shard.hash()).unwrap();
    shard.write_all(&mut folder);

    damage(&part_path(home.path(), shard.hash()), CHUNK_BYTES);
    let Opened::Part(rest) = shard.held(&[0, 2]) else {
        unreachable!("some chunks are a part");
    };
    assert_eq!(folder.finish(shard.hash()), Ok(Finished::Damaged(rest)));
    folder
        .write(shard.hash(), ChunkIndex(1), shard.chunk(ChunkIndex(1)))
        .unwrap();
    assert_eq!(folder.finish(shard.hash()), Ok(Finished::Whole));

    damage(&whole_path(home.path(), shard.hash()), 2 * CHUNK_BYTES);
    assert_eq!(folder.begin(shard.hash()), Ok(shard.held(&[0, 1])));
}

/// A manifest whose chunks are not its shard: nothing stays.
#[test]
fn a_manifest_that_contradicts_itself_leaves_nothing() {
    let (home, mut shard) = (TempDir::new().unwrap(), Shard::new(1, 3 * CHUNK_BYTES));
    shard.entry.hash = ShardHash([9; 32]);
    let mut folder = folder(home.path(), &[&shard]);
    folder.begin(shard.hash()).unwrap();
    shard.write_all(&mut folder);

    assert_eq!(folder.finish(shard.hash()), Err(StoreFailure::NotTheShard));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

/// The quota is kept: what nobody needs goes, the oldest first; what is needed or in the making stays, and
/// what has no room is refused before anything is written.
#[test]
fn room_is_made_from_what_nobody_needs() {
    let home = TempDir::new().unwrap();
    let shards = [1, 2, 3, 4].map(|seed| Shard::new(seed, 3 * CHUNK_BYTES));
    let [a, b, c, d] = &shards;
    let limits = Limits {
        quota_bytes: 8 * CHUNK_BYTES,
        spare_bytes: 0,
    };
    let mut folder = Folder::open(home.path(), limits).unwrap();
    folder.know(shards.iter().map(|shard| shard.entry.clone()));
    for shard in [a, b] {
        folder.begin(shard.hash()).unwrap();
        shard.write_all(&mut folder);
        folder.finish(shard.hash()).unwrap();
        std::thread::sleep(Duration::from_millis(20)); // so that one file is older
    }

    assert_eq!(folder.begin(c.hash()), Ok(c.held(&[])));
    assert_eq!(folder.take_gone(), [a.hash()], "the older one goes");

    folder.need(BTreeSet::from([b.hash()]));
    let full = Err(StoreFailure::Full {
        needed_bytes: 3 * CHUNK_BYTES,
        free_bytes: 2 * CHUNK_BYTES,
    });
    assert_eq!(
        folder.begin(d.hash()),
        full,
        "b is needed, and c in the making"
    );
    assert!(!part_path(home.path(), d.hash()).exists());
    assert!(folder.take_gone().is_empty());

    c.write_all(&mut folder);
    folder.close(c.hash());
    assert_eq!(folder.begin(d.hash()), Ok(d.held(&[])));
    assert!(!part_path(home.path(), c.hash()).exists());
    assert!(whole_path(home.path(), b.hash()).exists());
}

/// On a disk that fills in the middle of a shard nothing half-written counts, and all goes on when there is room.
#[test]
fn a_disk_that_fills_up_is_told_and_forgiven() {
    let Some(disk) = SmallDisk::mount(8) else {
        return eprintln!("skipped: only root can mount a small disk");
    };
    let shard = Shard::new(1, 5 * CHUNK_BYTES);
    let mut folder = folder(&disk.path().join("shards"), &[&shard]);
    folder.begin(shard.hash()).unwrap();
    folder
        .write(shard.hash(), ChunkIndex(0), shard.chunk(ChunkIndex(0)))
        .unwrap();

    let ballast = disk.path().join("ballast");
    let half = 6 * CHUNK_BYTES + CHUNK_BYTES / 2; // half a chunk fits
    fs::write(&ballast, vec![1; half as usize]).unwrap();
    let full = folder.write(shard.hash(), ChunkIndex(1), shard.chunk(ChunkIndex(1)));
    assert!(matches!(full, Err(StoreFailure::Full { .. })), "{full:?}");
    let full = folder.begin(shard.hash());
    assert!(matches!(full, Err(StoreFailure::Full { .. })), "{full:?}");

    fs::remove_file(ballast).unwrap();
    assert_eq!(folder.begin(shard.hash()), Ok(shard.held(&[0])));
    shard.write_all(&mut folder);
    assert_eq!(folder.finish(shard.hash()), Ok(Finished::Whole));
}

/// A chunk is served as it is: from the shard, from the part that is there; what is damaged is not served.
#[test]
fn chunks_are_read_with_their_header() {
    let (home, shard) = (TempDir::new().unwrap(), Shard::new(1, 2 * CHUNK_BYTES + 5));
    let mut folder = folder(home.path(), &[&shard]);
    let mut reader = Reader::new(home.path());
    reader.know([shard.entry.clone()]);
    folder.begin(shard.hash()).unwrap();
    folder
        .write(shard.hash(), ChunkIndex(2), shard.chunk(ChunkIndex(2)))
        .unwrap();

    let frame = reader.read(shard.hash(), ChunkIndex(2)).unwrap();
    let (header, payload) = frame.split_at(CHUNK_HEADER_BYTES);
    let header = ChunkHeader::decode(header.try_into().unwrap()).unwrap();
    assert_eq!(
        (header.shard, header.chunk, header.n_bytes),
        (shard.hash(), ChunkIndex(2), 5)
    );
    assert_eq!(payload, shard.chunk(ChunkIndex(2)));
    assert!(reader.read(shard.hash(), ChunkIndex(1)).is_err(), "a gap");
    assert!(
        reader.read(shard.hash(), ChunkIndex(3)).is_err(),
        "beyond the end"
    );
    assert!(
        reader.read(ShardHash([3; 32]), ChunkIndex(0)).is_err(),
        "another shard"
    );

    shard.write_all(&mut folder);
    folder.finish(shard.hash()).unwrap();
    damage(&whole_path(home.path(), shard.hash()), 3);
    assert!(reader.read(shard.hash(), ChunkIndex(0)).is_err(), "damaged");
    assert_eq!(
        &reader.read(shard.hash(), ChunkIndex(1)).unwrap()[CHUNK_HEADER_BYTES..],
        shard.chunk(ChunkIndex(1))
    );
}

/// The phone with the model serves its shards without writing them; another fetches one, both with real threads; and
/// what the first opens itself is written from the model.
#[test]
fn a_model_is_served_without_being_written() {
    let (home, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let shape = Shape {
        n_ff: 8192, // so that a shard has several chunks
        ..Shape::preset("tiny-llama").unwrap()
    };
    let model = Synth::new(shape, TensorType::F32, 3).to_gguf().unwrap();
    let cut = Cut::about(&model, 2).unwrap();
    let manifest = cut.manifest(|_| {});
    let entry = manifest.layers[0].clone();
    assert!(entry.chunks.len() > 1);
    let mut source = Store::start(&home.path().join("shards"), ROOMY).unwrap();
    let mut sink = Store::start(other.path(), ROOMY).unwrap();
    source.know(&manifest);
    sink.know(&manifest);

    source.offer_model(&cut, &manifest);
    for _ in manifest.shards() {
        assert!(matches!(
            next(&mut source),
            StoreEvent::Transfer(InEvent::Held { .. })
        ));
    }
    sink.open(entry.hash);
    assert!(matches!(
        next(&mut sink),
        StoreEvent::Transfer(InEvent::Opened { .. })
    ));
    for chunk in (0..entry.chunks.len() as u32).map(ChunkIndex) {
        source.serve(PeerId([2; 32]), entry.hash, chunk);
        let StoreEvent::Frame { frame, .. } = next(&mut source) else {
            panic!("a frame is read");
        };
        let payload = frame[CHUNK_HEADER_BYTES..].to_vec();
        sink.check(PeerId([1; 32]), entry.hash, chunk, payload);
        assert!(matches!(
            next(&mut sink),
            StoreEvent::Transfer(InEvent::Verified { .. })
        ));
    }
    assert!(
        !source.path(entry.hash).exists(),
        "nothing is written to be served"
    );

    sink.finish(entry.hash);
    source.open(entry.hash);
    for store in [&mut sink, &mut source] {
        let done = next(store);
        assert!(
            matches!(done, StoreEvent::Transfer(InEvent::Finished(_))),
            "{done:?}"
        );
        gguf_tools::verify_file(&entry, &store.path(entry.hash), |_| {}).unwrap();
    }
}

impl Shard {
    fn new(seed: u8, n_bytes: u64) -> Self {
        let bytes =
            (0..n_bytes).map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 16) as u8) ^ seed);
        let bytes = bytes.collect::<Vec<_>>();
        let chunks = bytes.chunks(CHUNK_BYTES as usize).map(ChunkHash::of);

        Self {
            entry: ShardEntry {
                kind: ShardKind::Layers(LayerRange::new(0, 1).unwrap()),
                bytes: n_bytes,
                hash: ShardHash::of(&bytes),
                chunks: chunks.collect(),
                kv_bytes_per_token: 1,
            },
            bytes,
        }
    }

    fn hash(&self) -> ShardHash {
        self.entry.hash
    }

    fn chunks(&self) -> impl DoubleEndedIterator<Item = ChunkIndex> {
        (0..self.entry.chunks.len() as u32).map(ChunkIndex)
    }

    fn chunk(&self, chunk: ChunkIndex) -> &[u8] {
        self.bytes
            .chunks(CHUNK_BYTES as usize)
            .nth(chunk.0 as usize)
            .unwrap()
    }

    fn held(&self, chunks: &[u32]) -> Opened {
        let mut held = proto::transfer::ChunkSet::none(self.entry.chunks.len() as u32);
        for &chunk in chunks {
            held.insert(ChunkIndex(chunk));
        }
        Opened::Part(held)
    }

    fn write_all(&self, folder: &mut Folder) {
        for chunk in self.chunks() {
            let written = folder.write(self.hash(), chunk, self.chunk(chunk));
            assert_eq!(written, Ok(Written::Verified));
        }
    }
}

/// A file system of some MiB, gone when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(mib: u32) -> Option<Self> {
        let home = TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(home.path())
            .status();

        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(home))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status(); // the folder's own removal tells
    }
}

fn folder(path: &Path, shards: &[&Shard]) -> Folder {
    let mut folder = Folder::open(path, ROOMY).unwrap();
    folder.know(shards.iter().map(|shard| shard.entry.clone()));

    folder
}

/// Changes one byte of a file.
fn damage(path: &Path, at: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn next(store: &mut Store) -> StoreEvent {
    store.events.blocking_recv().expect("the threads live")
}
