//! Synthetic samples, drawn parts and hashes.

use catc::data::{DataError, DataSet, InputSpec, draw, split};
use catc::driver::{Calibration, CalibrationSource, SampleSet};
use catc_ir::text::{NoBlobs, parse};
use catc_passes::CalibrationData;
use tempfile::TempDir;

mod npy_bytes;
use npy_bytes::{f32_bytes, npy};

#[test]
fn synthetic_samples_are_standard_normal() {
    let set = DataSet::synthetic(&InputSpec::reals("x", &[3, 33, 41]), 1, 20).unwrap();
    assert!(set.is_synthetic());
    let values = set.samples::<f32>(&(0..20).collect::<Vec<_>>()).unwrap();
    let n = values.len() as f64;
    let moment = |power: i32| values.iter().map(|&value| f64::from(value).powi(power)).sum::<f64>() / n;
    assert!(moment(1).abs() < 0.02 && (moment(2) - 1.0).abs() < 0.02, "{} {}", moment(1), moment(2));
    assert!(moment(3).abs() < 0.05 && (moment(4) - 3.0).abs() < 0.1, "{} {}", moment(3), moment(4));
    let pairs: f64 = values.windows(2).map(|pair| f64::from(pair[0] * pair[1])).sum();
    assert!((pairs / n).abs() < 0.02, "neighbours are independent");
}

#[test]
fn synthetic_samples_depend_on_seed_index_and_input_alone() {
    let set = DataSet::synthetic(&InputSpec::reals("x", &[5]), 7, 4).unwrap();
    let again = DataSet::synthetic(&InputSpec::reals("x", &[5]), 7, 100).unwrap();
    assert_eq!(set.sample::<f32>(3).unwrap(), again.sample::<f32>(3).unwrap());
    assert_ne!(set.sample::<f32>(3).unwrap(), set.sample::<f32>(2).unwrap());
    assert_ne!(
        set.sample::<f32>(3).unwrap(),
        DataSet::synthetic(&InputSpec::reals("x", &[5]), 8, 4).unwrap().sample::<f32>(3).unwrap()
    );
    let input = InputSpec::reals("x", &[5]);
    let sets = DataSet::synthetic_inputs(&[input.clone(), input], 7, 4).unwrap();
    assert_eq!(sets[0].sample::<f32>(0).unwrap(), set.sample::<f32>(0).unwrap());
    assert_ne!(sets[1].sample::<f32>(0).unwrap(), set.sample::<f32>(0).unwrap());
    // The stream is part of what a model compiled without data depends on: it must not change unseen.
    assert_eq!(set.sample::<f32>(0).unwrap().map_bits(), EXPECTED);
    assert!(matches!(DataSet::synthetic(&InputSpec::reals("x", &[5]), 7, 0), Err(DataError::Empty { .. })));
}

const EXPECTED: [u32; 5] = [1049877974, 1057131718, 3194536849, 3217403127, 3210491451];

trait Bits {
    fn map_bits(&self) -> Vec<u32>;
}

impl Bits for Vec<f32> {
    fn map_bits(&self) -> Vec<u32> {
        self.iter().map(|value| value.to_bits()).collect()
    }
}

#[test]
fn splits_are_disjoint_and_whole() {
    for (n, held_out) in [(2, 1), (10, 3), (1024, 256)] {
        let parts = split(n, held_out, 5).unwrap();
        assert_eq!(parts.held_out.len(), held_out);
        assert!(parts.fit.is_sorted() && parts.held_out.is_sorted());
        let mut all = [parts.fit.clone(), parts.held_out.clone()].concat();
        all.sort();
        assert_eq!(all, (0..n).collect::<Vec<_>>());
        assert_eq!(split(n, held_out, 5).unwrap(), parts);
    }
    assert_ne!(split(100, 50, 1).unwrap(), split(100, 50, 2).unwrap());
    assert_eq!(split(12, 4, 3).unwrap().held_out, [1, 2, 5, 8], "the same on every machine");
    for (n, held_out) in [(0, 0), (4, 0), (4, 4), (4, 5)] {
        assert!(matches!(split(n, held_out, 0), Err(DataError::Split { .. })), "{held_out} of {n}");
    }
}

#[test]
fn every_sample_is_held_out_equally_often() {
    let mut counts = [0; 8];
    for seed in 0..4000 {
        for index in split(8, 2, seed).unwrap().held_out {
            counts[index] += 1;
        }
    }
    assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
}

#[test]
fn what_is_drawn_comes_from_everywhere_and_is_divided_independently() {
    assert_eq!((draw(4, 4, 0), draw(4, 9, 0), draw(9, 0, 0)), (vec![0, 1, 2, 3], vec![0, 1, 2, 3], vec![]));
    assert_eq!(draw(12, 4, 3), DRAWN, "the same on every machine");
    let (mut counts, mut both) = ([0; 8], 0);
    for seed in 0..4000 {
        let drawn = draw(8, 2, seed);
        assert!(drawn.len() == 2 && drawn[0] < drawn[1]);
        drawn.iter().for_each(|&index| counts[index] += 1);
        both += usize::from(split(8, 2, seed).unwrap().held_out == drawn);
    }
    assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    // One of 28 pairs.
    assert!((90..200).contains(&both), "{both}");
}

const DRAWN: [usize; 4] = [1, 2, 3, 6];

#[test]
fn hashes_follow_the_samples() {
    let folder = TempDir::new().unwrap();
    let hash = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        DataSet::open(&path, None, &[2]).unwrap().content_hash().unwrap()
    };
    let first = hash("a.npy", &npy("<f4", false, "(2, 2)", &f32_bytes(&[1., 2., 3., 4.])));
    assert_eq!(first, hash("b.npy", &npy("<f4", false, "(2, 2)", &f32_bytes(&[1., 2., 3., 4.]))));
    assert_eq!(first, hash("b.npy", &npy("<f4", true, "(2, 2)", &f32_bytes(&[1., 3., 2., 4.]))));
    assert_ne!(first, hash("b.npy", &npy("<f4", false, "(3, 2)", &f32_bytes(&[1., 2., 3., 4., 5., 6.]))));
    assert_ne!(first, hash("b.npy", &npy("<f4", false, "(2, 2)", &f32_bytes(&[1., 2., 3., 5.]))));
}

#[test]
fn data_sets_are_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<DataSet>();
    let folder = TempDir::new().unwrap();
    let values: Vec<f32> = (0..4000).map(|value| value as f32).collect();
    let path = folder.path().join("x.npy");
    std::fs::write(&path, npy("<f4", false, "(1000, 4)", &f32_bytes(&values))).unwrap();
    let set = DataSet::open(&path, None, &[4]).unwrap();
    assert_eq!(set.samples::<f32>(&(0..1000).collect::<Vec<_>>()).unwrap(), values);
}

#[test]
fn calibration_samples_are_drawn_from_all_of_a_sorted_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.npy");
    let sorted: Vec<f32> = (0..100).map(|value| value as f32).collect();
    std::fs::write(&path, npy("<f4", false, "(100, 1)", &f32_bytes(&sorted))).unwrap();
    let text = "graph @g float {\ninput(v0: f32[N,1] \"x\"):\n  v1: f32[N,1] = relu v0\n  output v1 \"y\"\n}\n";
    let graph = parse(text, &NoBlobs).unwrap();
    let values = |set: &SampleSet| -> Vec<f32> {
        (0..set.len()).map(|i| set.sample(i).unwrap()[0].as_f32().unwrap()[0]).collect()
    };
    let open = |limit: usize, holdout: usize, seed: u64| {
        let source = CalibrationSource { path: Some(&path), limit: Some(limit), holdout, ..Default::default() };
        Calibration::open(&source, &graph, &[], true, seed).unwrap()
    };
    let drawn = open(20, 5, 1);
    let (ranges, correction) = (values(&drawn.ranges), values(drawn.correction.as_ref().unwrap()));
    assert_eq!((ranges.len(), correction.len()), (15, 5));
    let mut all = [ranges, correction].concat();
    all.sort_by(f32::total_cmp);
    all.dedup();
    assert_eq!(all, values(&open(20, 0, 1).ranges));
    assert!(all.len() == 20 && all[1] < 30.0 && all[18] > 70.0, "{all:?}");
    assert!(drawn.description.contains("20 (of 100) samples") && drawn.description.contains("drawn by seed 1"));
    assert_ne!(all, values(&open(20, 0, 2).ranges));
    let whole = open(300, 0, 1);
    assert_eq!(values(&whole.ranges), sorted);
    assert!(whole.notes[0].contains("300 samples were asked for, 100 are there"), "{:?}", whole.notes);
}
