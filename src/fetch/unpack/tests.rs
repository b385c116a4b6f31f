use tar::{Builder, Header};

use super::*;

/// One entry: its name as it stands in the header, type, mode, bytes.
type Item<'a> = (&'a [u8], EntryType, u32, &'a [u8]);

fn header(name: &[u8], kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.as_gnu_mut().expect("a GNU header").name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_cksum();
    header
}

fn archive(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, mode, bytes) in items {
        builder.append(&header(name, *kind, *mode, bytes.len()), *bytes).expect("appended");
    }
    builder.into_inner().expect("finished")
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    file
}

fn good() -> Vec<u8> {
    archive(&[
        (b"./", EntryType::Directory, 0o755, b""),
        (b"bin/", EntryType::Directory, 0o755, b""),
        (b"bin/run", EntryType::Regular, 0o104_777, b"#!/bin/sh\n"),
        (b"./share/empty", EntryType::Regular, 0o644, b""),
    ])
}

fn assert_good(directory: &Path) {
    assert_eq!(fs::read(directory.join("bin/run")).expect("read"), b"#!/bin/sh\n");
    let mode = |name: &str| directory.join(name).metadata().expect("looked").permissions().mode() & 0o7777;
    assert_eq!((mode("bin/run"), mode("share/empty")), (0o755, 0o644));
    assert_eq!(names(directory), [RECORD, "bin", "share"]);
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("read");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    names.sort_unstable();
    names
}

#[test]
fn three_kinds_of_archives_are_unpacked() {
    let tar = good();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).expect("packed");
    let zstd = zstd::encode_all(&*tar, 3).expect("packed");
    for bytes in [tar, gzip.finish().expect("packed"), zstd] {
        let directory = tempfile::tempdir().expect("a directory");
        unpack_file(directory.path(), &file(&bytes), "a@1").expect("unpacked");
        assert_good(directory.path());
    }
}

#[test]
fn a_second_run_replaces_the_first_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let other = archive(&[
        (b"bin", EntryType::Regular, 0o644, b"now a file"),
        (b"new", EntryType::Regular, 0o644, b""),
    ]);
    unpack_file(directory.path(), &file(&other), "a@1").expect("unpacked");
    fs::write(directory.path().join("mine"), "by hand").expect("written");
    fs::create_dir(directory.path().join(format!("{STAGING}dead"))).expect("left by a killed run");
    unpack_file(directory.path(), &file(&good()), "a@2").expect("unpacked");
    assert_eq!(names(directory.path()), [RECORD, "bin", "mine", "share"]);

    let clash = archive(&[(b"mine", EntryType::Regular, 0o644, b"")]);
    let error =
        unpack_file(directory.path(), &file(&clash), "a@3").expect_err("something is there").to_string();
    assert!(error.contains("mine': something is there"), "{error}");
    assert_eq!(names(directory.path()), [RECORD, "bin", "mine", "share"], "and nothing went");
}

#[test]
fn names_with_extensions_are_read() {
    let long = format!("{}/file", "d".repeat(150));
    let mut builder = Builder::new(Vec::new());
    let mut plain = Header::new_gnu();
    plain.set_size(2);
    plain.set_mode(0o600);
    plain.set_cksum();
    builder.append_data(&mut plain, &long, &b"ab"[..]).expect("appended");
    builder.append_pax_extensions([("path", &b"renamed"[..])]).expect("appended");
    builder.append(&header(b"short", EntryType::Regular, 0o644, 1), &b"c"[..]).expect("appended");
    let directory = tempfile::tempdir().expect("a directory");
    unpack_file(directory.path(), &file(&builder.into_inner().expect("finished")), "a@1").expect("unpacked");
    assert_eq!(fs::read(directory.path().join(long)).expect("read"), b"ab");
    assert_eq!(fs::read(directory.path().join("renamed")).expect("read"), b"c");
}

#[test]
fn what_is_hostile_is_refused_and_leaves_nothing() {
    let long_name = vec![b'x'; 5000];
    let mut big_extension = b"100000 comment=".to_vec();
    big_extension.resize(100_000, b'x');
    let bomb = {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&header(b"zeros", EntryType::Regular, 0o644, 200 << 20).as_bytes()[..])
            .expect("packed");
        let zeros = vec![0; 1 << 20];
        for _ in 0..200 {
            gzip.write_all(&zeros).expect("packed");
        }
        gzip.finish().expect("packed")
    };
    let mut many = Builder::new(Vec::new());
    for number in 0..=ENTRIES {
        let name = format!("{}/", number % 7);
        many.append(&header(name.as_bytes(), EntryType::Directory, 0o755, 0), io::empty()).expect("appended");
    }
    let mut cut = good();
    cut.truncate(1540);
    let mut desynchronised = good();
    desynchronised[512 + 148] ^= 1;
    let one = |name: &[u8], kind: EntryType| archive(&[(name, kind, 0o644, b"")]);
    let regular = |name: &[u8]| one(name, EntryType::Regular);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("absolute", regular(b"/etc/passwd"), "leads out"),
        ("parent", regular(b"../x"), "leads out"),
        ("parent inside", regular(b"a/../../x"), "leads out"),
        ("our own record", regular(b".sacker-unpacked"), "leads out"),
        ("symbolic link", one(b"a", EntryType::Symlink), "a link"),
        ("hard link", one(b"a", EntryType::Link), "a link"),
        ("character device", one(b"a", EntryType::Char), "a device"),
        ("block device", one(b"a", EntryType::Block), "a device"),
        ("FIFO", one(b"a", EntryType::Fifo), "a FIFO"),
        ("sparse", one(b"a", EntryType::GNUSparse), "a sparse file"),
        (
            "twice",
            archive(&[(b"a", EntryType::Regular, 0o644, b"1"), (b"./a", EntryType::Regular, 0o644, b"2")]),
            "twice",
        ),
        ("long name", archive(&[(b"x", EntryType::GNULongName, 0, &long_name)]), "longer than 4096"),
        ("large extension", archive(&[(b"x", EntryType::XHeader, 0, &big_extension)]), "longer than 65536"),
        ("bomb", bomb, "bytes unpacked"),
        ("entries", many.into_inner().expect("finished"), "more than 200000 entries"),
        ("cut off", cut, "middle of 'bin/run'"),
        ("desynchronised", desynchronised, "checksum"),
        ("no archive", b"#!/bin/sh\n".repeat(100), "not a number"),
        ("empty", Vec::new(), "no entries"),
    ];
    for (what, bytes, why) in cases {
        let directory = tempfile::tempdir().expect("a directory");
        let start = std::time::Instant::now();
        let error = unpack_file(directory.path(), &file(&bytes), "a@1").expect_err(what);
        assert!(matches!(error.meaning(), Meaning::Corrupt { .. }), "{what}: {error:?}");
        assert!(error.to_string().contains(why), "{what}: {error}");
        assert!(start.elapsed() < std::time::Duration::from_secs(20), "{what}: {:?}", start.elapsed());
        assert_eq!(names(directory.path()), [RECORD], "{what}");
    }
}

#[test]
fn one_run_at_a_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let _other = Record::open(directory.path()).expect("free");
    let error = unpack_file(directory.path(), &file(&good()), "a@1").expect_err("held").to_string();
    assert!(error.contains("another process unpacks"), "{error}");
}
