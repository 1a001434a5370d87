//! Images and preprocess files: pixels against what PIL makes of the same files (see `tests/images/make.py`).

use std::path::{Path, PathBuf};

use catc::data::{DataError, DataSet, Preprocess};
use tempfile::TempDir;

mod npy_bytes;
use npy_bytes::{f32_bytes, npy};

const ROWS: usize = 16;
const COLUMNS: usize = 24;

fn image(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images").join(name)
}

fn preprocess(text: &str) -> Preprocess {
    Preprocess::from_toml(text, "p.toml").unwrap()
}

/// The pixels of an npy of uint8 `[height, width, 3]` that PIL made.
fn expected(name: &str, values: usize) -> Vec<u8> {
    let bytes = std::fs::read(image(name)).unwrap();
    assert_eq!(bytes.len(), 128 + values, "{name}");
    bytes[128..].to_vec()
}

/// The first sample of `path`, as it is with `text` for a preprocess file, put back into rows, columns, channels.
fn decoded(path: &Path, text: &str, shape: [usize; 3]) -> Vec<f32> {
    let sample = DataSet::open(path, Some(&preprocess(text)), &shape).unwrap().sample::<f32>(0).unwrap();
    let plane = shape[1] * shape[2];
    (0..sample.len()).map(|at| sample[at % shape[0] * plane + at / shape[0]]).collect()
}

fn largest_difference(found: &[f32], expected: &[u8]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(found, &expected)| (found - f32::from(expected)).abs()).fold(0.0, f32::max)
}

#[test]
fn png_pixels_are_those_of_pil() {
    let found = decoded(&image("rgb.png"), "", [3, ROWS, COLUMNS]);
    assert_eq!(largest_difference(&found, &expected("rgb.npy", ROWS * COLUMNS * 3)), 0.0);
}

#[test]
fn jpeg_pixels_are_near_those_of_pil() {
    // Decoders differ in how they round and how they enlarge the colour planes.
    for (name, tolerance) in [("rgb_420", 4.0), ("rgb_progressive", 2.0), ("grey", 1.0), ("cmyk", 2.0)] {
        let found = decoded(&image(&format!("{name}.jpg")), "", [3, ROWS, COLUMNS]);
        let expected = expected(&format!("{name}.npy"), ROWS * COLUMNS * 3);
        let difference = largest_difference(&found, &expected);
        assert!(difference <= tolerance, "{name}: {difference}");
    }
}

#[test]
fn resizing_is_that_of_pil() {
    for (height, width) in [(7, 9), (40, 50)] {
        let found = decoded(&image("rgb.png"), &format!("resize = [{height}, {width}]"), [3, height, width]);
        let expected = expected(&format!("resized_{height}x{width}.npy"), height * width * 3);
        assert_eq!(largest_difference(&found, &expected), 0.0, "{height}x{width}");
    }
    let found = decoded(&image("rgb.png"), "resize = 11", [3, 11, 16]);
    assert_eq!(largest_difference(&found, &expected("resized_11x16.npy", 11 * 16 * 3)), 0.0);
    let found = decoded(&image("rgb.png"), "resize = [7, 9]\ncolor = \"gray\"", [1, 7, 9]);
    assert_eq!(largest_difference(&found, &expected("grey_resized_7x9.npy", 7 * 9)), 0.0);
}

#[test]
fn crop_is_central_and_rounded_down() {
    let whole = expected("rgb.npy", ROWS * COLUMNS * 3);
    // (16 - 5) / 2 = 5.5 and (24 - 11) / 2 = 6.5
    let cropped: Vec<u8> =
        (5..10).flat_map(|row| whole[(row * COLUMNS + 6) * 3..(row * COLUMNS + 17) * 3].to_vec()).collect();
    let found = decoded(&image("rgb.png"), "crop = [5, 11]", [3, 5, 11]);
    assert_eq!(largest_difference(&found, &cropped), 0.0);
    // Resized first: the centre column of the resized image.
    let resized = expected("resized_11x16.npy", 11 * 16 * 3);
    let cropped: Vec<u8> = (2..9).flat_map(|row| resized[(row * 16 + 4) * 3..(row * 16 + 11) * 3].to_vec()).collect();
    let found = decoded(&image("rgb.png"), "crop = 7\nresize = 11", [3, 7, 7]);
    assert_eq!(largest_difference(&found, &cropped), 0.0);
}

#[test]
fn colour_then_scale_then_mean_then_std() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.npy");
    // One pixel: red 10, green 20, blue 250.
    std::fs::write(&path, npy("|u1", false, "(1, 1, 1, 3)", &[10, 20, 250])).unwrap();
    let sample = |text: &str, channels: usize| {
        DataSet::open(&path, Some(&preprocess(text)), &[channels, 1, 1]).unwrap().sample::<f32>(0).unwrap()
    };
    assert_eq!(sample("", 3), [10.0, 20.0, 250.0]);
    assert_eq!(sample("color = \"bgr\"\nmean = [1, 2, 3]", 3), [249.0, 18.0, 7.0]);
    assert_eq!(sample("scale = 0.5\nmean = 1\nstd = [2, 4, 8.0]", 3), [2.0, 2.25, 15.5]);
    // (19595 * 10 + 38470 * 20 + 7471 * 250 + 32768) / 65536 = 43.7...
    assert_eq!(sample("color = \"gray\"", 1), [43.0]);
}

#[test]
fn uint8_arrays_are_read_in_either_layout() {
    let folder = TempDir::new().unwrap();
    let open = |name: &str, bytes: Vec<u8>, text: &str, shape: &[usize]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        DataSet::open(&path, Some(&preprocess(text)), shape)
    };
    let values: Vec<u8> = (0..24).collect();
    let planar: Vec<f32> = (12..24).map(|value| value as f32).collect();
    let set = open("a.npy", npy("|u1", false, "(2, 3, 2, 2)", &values), "layout = \"nchw\"", &[3, 2, 2]).unwrap();
    assert_eq!(set.sample::<f32>(1).unwrap(), planar);
    let interleaved = [12., 15., 18., 21., 13., 16., 19., 22., 14., 17., 20., 23.];
    let set = open("b.npy", npy("|u1", false, "(2, 2, 2, 3)", &values), "layout = \"nhwc\"", &[3, 2, 2]).unwrap();
    assert_eq!(set.sample::<f32>(1).unwrap(), interleaved);
    let set = open("c.npy", npy("|u1", true, "(24, 1, 1)", &values), "color = \"gray\"", &[1, 1, 1]).unwrap();
    assert_eq!(set.sample::<f32>(23).unwrap(), [23.0]);
    let set = open("d.npy", npy("|u1", false, "(6, 2, 2, 1)", &values), "", &[3, 2, 2]).unwrap();
    assert_eq!(set.sample::<f32>(1).unwrap(), [4., 5., 6., 7., 4., 5., 6., 7., 4., 5., 6., 7.]);

    let swapped = open("e.npy", npy("|u1", false, "(1, 3, 2, 4)", &values), "", &[3, 2, 4]).unwrap_err();
    assert!(swapped.to_string().contains("is it \"nchw\"?"), "{swapped}");
    let small = open("f.npy", npy("|u1", false, "(2, 2, 2, 3)", &values), "", &[3, 4, 4]).unwrap_err().to_string();
    assert!(small.contains("[3, 2, 2]; expected [3, 4, 4]") && small.contains("`resize` and `crop`"), "{small}");
    let flat = open("g.npy", npy("|u1", false, "(2, 12)", &values), "", &[12]).unwrap_err();
    assert!(matches!(flat, DataError::Shape { .. }), "{flat}");
    let colour = open("h.npy", npy("|u1", false, "(2, 2, 2, 3)", &values), "", &[1, 2, 2]).unwrap_err().to_string();
    assert!(colour.contains("color = \"rgb\"") && colour.contains("\"gray\" (1)"), "{colour}");
}

#[test]
fn images_need_a_preprocess_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.npy");
    std::fs::write(&path, npy("|u1", false, "(1, 1, 1, 3)", &[1, 2, 3])).unwrap();
    for path in [&path, &image("rgb.png")] {
        let error = DataSet::open(path, None, &[3, 1, 1]).unwrap_err();
        assert!(
            matches!(error, DataError::NeedsPreprocess { .. }) && error.to_string().contains("--preprocess"),
            "{error}"
        );
    }
}

#[test]
fn a_crop_larger_than_the_image_is_refused() {
    let error = DataSet::open(&image("rgb.png"), Some(&preprocess("crop = 20")), &[3, 20, 20]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("[3, 16, 24], smaller than `crop` of [20, 20]") && text.contains("`resize`"), "{text}");
    let error = DataSet::open(&image("rgb.png"), Some(&preprocess("crop = 9")), &[3, 8, 8]).unwrap_err();
    assert!(error.to_string().contains("[3, 9, 9] after `crop`; expected [3, 8, 8]"), "{error}");
}

#[test]
fn folders_are_sorted_by_name_and_decoded_when_asked() {
    let folder = TempDir::new().unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    put("b.npy", &npy("|u1", false, "(1, 2, 3)", &[3, 4, 5, 6, 7, 8]));
    put("a.NPY", &npy("<f4", false, "(3, 1, 2)", &f32_bytes(&[0.5; 6])));
    put("c.jpeg", b"\xff\xd8\xff\xe0 and no more");
    put(".hidden.png", b"");
    put("labels.csv", b"a,0");
    let set = DataSet::open(folder.path(), Some(&preprocess("")), &[3, 1, 2]).unwrap();
    assert_eq!((set.len(), set.notes().len()), (3, 1));
    assert!(set.notes()[0].contains("left out 1") && set.notes()[0].contains("labels.csv"), "{:?}", set.notes());
    let names: Vec<_> = set.sample_files().unwrap().iter().map(|path| path.file_name().unwrap()).collect();
    assert_eq!(names, ["a.NPY", "b.npy", "c.jpeg"]);
    assert_eq!(set.sample::<f32>(0).unwrap(), [0.5; 6]);
    assert_eq!(set.sample::<f32>(1).unwrap(), [3., 6., 4., 7., 5., 8.]);
    let error = set.validate_all().unwrap_err().to_string();
    assert!(error.contains("c.jpeg"), "the damaged file is named: {error}");
    set.validate(&[0, 1]).unwrap();

    put("a.NPY", &npy("<f4", false, "(1, 3, 1, 2)", &f32_bytes(&[0.5, 0.5, 0.5, 0.5, f32::NAN, 0.5])));
    let error = DataSet::open(folder.path(), Some(&preprocess("")), &[3, 1, 2]).unwrap_err().to_string();
    assert!(error.contains("a.NPY: sample 0 holds NaN at position [2, 0, 0]"), "{error}");
    put("a.NPY", &npy("<f4", false, "(2, 3, 1, 2)", &f32_bytes(&[0.5; 12])));
    let error = DataSet::open(folder.path(), Some(&preprocess("")), &[3, 1, 2]).unwrap_err().to_string();
    assert!(error.contains("each .npy is one sample"), "{error}");
}

#[test]
fn folders_without_samples_or_with_folders_are_refused() {
    let folder = TempDir::new().unwrap();
    let open = || DataSet::open(folder.path(), Some(&preprocess("")), &[3, 1, 1]).unwrap_err();
    assert!(open().to_string().contains("the folder is empty"));
    std::fs::write(folder.path().join("x.gif"), b"").unwrap();
    assert!(open().to_string().contains("none of its 1 files"));
    std::fs::create_dir(folder.path().join("n01440764")).unwrap();
    let error = open();
    assert!(matches!(error, DataError::SubFolder { .. }) && error.to_string().contains("n01440764"), "{error}");
    std::fs::remove_dir(folder.path().join("n01440764")).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("x.png")).unwrap();
        assert!(matches!(open(), DataError::NotRegular { .. }));
    }
}

/// A PNG of one row made by the png crate.
fn png(
    color: png::ColorType,
    depth: png::BitDepth,
    size: (u32, u32),
    palette: &[u8],
    trns: &[u8],
    data: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, size.0, size.1);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if !palette.is_empty() {
        encoder.set_palette(palette);
    }
    if !trns.is_empty() {
        encoder.set_trns(trns);
    }
    encoder.write_header().unwrap().write_image_data(data).unwrap();
    bytes
}

#[test]
fn every_kind_of_png_is_decoded() {
    use png::{BitDepth::*, ColorType::*};
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.png");
    let palette = [9, 8, 7, 1, 2, 3];
    let grey = [1., 1., 1., 254., 254., 254.];
    for (bytes, pixels) in [
        (png(Grayscale, Eight, (2, 1), &[], &[], &[1, 254]), grey),
        (png(Grayscale, Sixteen, (2, 1), &[], &[], &[1, 255, 254, 3]), grey),
        (png(Grayscale, One, (2, 1), &[], &[], &[0b0100_0000]), [0., 0., 0., 255., 255., 255.]),
        (png(Grayscale, Four, (2, 1), &[], &[], &[0x1f]), [17., 17., 17., 255., 255., 255.]),
        (png(GrayscaleAlpha, Eight, (2, 1), &[], &[], &[1, 0, 254, 9]), grey),
        (png(Indexed, Eight, (2, 1), &palette, &[], &[1, 0]), [1., 2., 3., 9., 8., 7.]),
        (png(Indexed, Two, (2, 1), &palette, &[0, 9], &[0b0100_0000]), [1., 2., 3., 9., 8., 7.]),
        (png(Rgb, Eight, (2, 1), &[], &[], &[1, 2, 3, 4, 5, 6]), [1., 2., 3., 4., 5., 6.]),
        (png(Rgb, Sixteen, (2, 1), &[], &[], &[1, 255, 2, 0, 3, 0, 4, 0, 5, 0, 6, 9]), [1., 2., 3., 4., 5., 6.]),
        (png(Rgba, Eight, (2, 1), &[], &[], &[1, 2, 3, 0, 4, 5, 6, 255]), [1., 2., 3., 4., 5., 6.]),
        (
            png(Rgba, Sixteen, (2, 1), &[], &[], &[1, 0, 2, 0, 3, 0, 0, 0, 4, 0, 5, 0, 6, 0, 0, 0]),
            [1., 2., 3., 4., 5., 6.],
        ),
    ] {
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(decoded(&path, "", [3, 1, 2]), pixels);
    }
}

#[test]
fn damaged_images_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.img");
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = DataSet::open(&path, Some(&preprocess("")), &[3, ROWS, COLUMNS]).unwrap_err().to_string();
        assert!(error.contains("x.img") && !error.contains('\n'), "{error}");
        error
    };
    for name in ["rgb.png", "rgb_progressive.jpg", "rgb_420.jpg"] {
        let bytes = std::fs::read(image(name)).unwrap();
        // The end marker of a PNG needs its checksum, that of a JPEG both its bytes.
        for cut in (0..bytes.len()).rev().step_by(7) {
            refused(&bytes[..cut]);
        }
    }
    let mut flipped = std::fs::read(image("rgb.png")).unwrap();
    flipped[100] ^= 4;
    refused(&flipped);
    // 60,000 x 60,000 pixels, and 8,000 x 8,000 in too few bytes.
    let mut large = png(png::ColorType::Rgb, png::BitDepth::Eight, (1, 1), &[], &[], &[1, 2, 3]);
    for (side, says) in [(60_000u32, "more than the limit"), (8_000, "more than its bytes can hold")] {
        large[16..20].copy_from_slice(&side.to_be_bytes());
        large[20..24].copy_from_slice(&side.to_be_bytes());
        let checksum = crc32(&large[12..29]);
        large[29..33].copy_from_slice(&checksum.to_be_bytes());
        assert!(refused(&large).contains(says), "{side}");
    }
    let mut large = std::fs::read(image("rgb_420.jpg")).unwrap();
    let frame = large.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    for (side, says) in [(60_000u16, "more than the limit"), (8_000, "more than its bytes can hold")] {
        large[frame + 5..frame + 7].copy_from_slice(&side.to_be_bytes());
        large[frame + 7..frame + 9].copy_from_slice(&side.to_be_bytes());
        assert!(refused(&large).contains(says), "{side}");
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn extreme_resizing_is_refused_not_run() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("thin.png");
    let thin = png(png::ColorType::Grayscale, png::BitDepth::Eight, (30_000, 1), &[], &[], &[0; 30_000]);
    std::fs::write(&path, thin).unwrap();
    let error = DataSet::open(&path, Some(&preprocess("resize = 256\ncrop = 224")), &[3, 224, 224]).unwrap_err();
    assert!(error.to_string().contains("too large"), "{error}");
}

#[test]
fn preprocess_files_are_checked() {
    for (text, says) in [
        (
            "mena = 1",
            "unknown field `mena`, expected one of `layout`, `network_layout`, `color`, `scale`, `mean`, `std`, `resize`, `crop`",
        ),
        ("layout = \"chw\"", "`nhwc` or `nchw`"),
        ("\ncolor = \"grey\"", "line 2"),
        ("scale = \"1/255\"", "expected f64"),
        ("scale = nan", "`scale` is NaN"),
        ("scale = 0", "`scale` is 0"),
        ("mean = [1, 2]", "`mean` has 2 values, but color = \"rgb\" has 3 channels"),
        ("color = \"gray\"\nstd = [1, 2, 3]", "`std` has 3 values, but color = \"gray\" has 1 channel"),
        ("mean = \"imagenet\"", "a number, or a list of numbers"),
        ("mean = [inf, 0, 0]", "`mean` holds inf"),
        ("std = 0", "`std` holds 0"),
        ("std = [1, -1, 1]", "`std` holds -1"),
        ("std = 1e-300", "larger than float32"),
        ("resize = 0", "from 1 to 16384"),
        ("resize = -4", "from 1 to 16384"),
        ("crop = 100000", "from 1 to 16384"),
        ("crop = [1, 2, 3]", "[height, width]"),
        ("crop = [1]", "[height, width]"),
        ("crop = 1.5", "a number of pixels"),
        ("crop = 1\ncrop = 2", "duplicate"),
        ("crop", "line 1"),
    ] {
        let error = Preprocess::from_toml(text, "p.toml").unwrap_err();
        assert!(matches!(error, DataError::Preprocess { .. }));
        let message = error.to_string();
        assert!(message.contains(says) && message.contains("p.toml") && !message.contains('\n'), "{text}: {message}");
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("p.toml");
    assert!(matches!(Preprocess::from_file(&path), Err(DataError::Read { .. })));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(Preprocess::from_file(&path).unwrap_err().to_string().contains("UTF-8"));
    std::fs::write(&path, "scale = 1\nmean = [1, 2.5, 3]\nresize = [8, 9]").unwrap();
    assert_eq!(
        Preprocess::from_file(&path).unwrap().to_string(),
        "layout nhwc, color rgb, resize [8, 9], scale 1, mean [1.0, 2.5, 3.0], std [1.0, 1.0, 1.0]"
    );
}
