//! Synthetic samples, splits and hashes.

use catc::data::{DataError, DataSet, InputSpec, split};
use tempfile::TempDir;

mod npy_bytes;
use npy_bytes::{f32_bytes, npy};

#[test]
fn synthetic_samples_are_standard_normal() {
    let set = DataSet::synthetic(&[3, 33, 41], 1, 20).unwrap();
    assert!(set.is_synthetic());
    let values = set.samples(&(0..20).collect::<Vec<_>>()).unwrap();
    let n = values.len() as f64;
    let moment = |power: i32| values.iter().map(|&value| f64::from(value).powi(power)).sum::<f64>() / n;
    assert!(moment(1).abs() < 0.02 && (moment(2) - 1.0).abs() < 0.02, "{} {}", moment(1), moment(2));
    assert!(moment(3).abs() < 0.05 && (moment(4) - 3.0).abs() < 0.1, "{} {}", moment(3), moment(4));
    let pairs: f64 = values.windows(2).map(|pair| f64::from(pair[0] * pair[1])).sum();
    assert!((pairs / n).abs() < 0.02, "neighbours are independent");
}

#[test]
fn synthetic_samples_depend_on_seed_index_and_input_alone() {
    let set = DataSet::synthetic(&[5], 7, 4).unwrap();
    let again = DataSet::synthetic(&[5], 7, 100).unwrap();
    assert_eq!(set.sample(3).unwrap(), again.sample(3).unwrap());
    assert_ne!(set.sample(3).unwrap(), set.sample(2).unwrap());
    assert_ne!(set.sample(3).unwrap(), DataSet::synthetic(&[5], 8, 4).unwrap().sample(3).unwrap());
    let input = InputSpec { name: "x".to_owned(), shape: vec![5] };
    let sets = DataSet::synthetic_inputs(&[input.clone(), input], 7, 4).unwrap();
    assert_eq!(sets[0].sample(0).unwrap(), set.sample(0).unwrap());
    assert_ne!(sets[1].sample(0).unwrap(), set.sample(0).unwrap());
    // The stream is part of what a model compiled without data depends on: it must not change unseen.
    assert_eq!(set.sample(0).unwrap().map_bits(), EXPECTED);
    assert!(matches!(DataSet::synthetic(&[5], 7, 0), Err(DataError::Empty { .. })));
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
fn hashes_follow_the_samples_used() {
    let folder = TempDir::new().unwrap();
    let hash = |name: &str, bytes: &[u8], limit: Option<usize>| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        DataSet::open(&path, None, &[2], limit).unwrap().content_hash().unwrap()
    };
    let first = hash("a.npy", &npy("<f4", false, "(2, 2)", &f32_bytes(&[1., 2., 3., 4.])), None);
    assert_eq!(first, hash("b.npy", &npy("<f4", false, "(2, 2)", &f32_bytes(&[1., 2., 3., 4.])), None));
    assert_eq!(first, hash("b.npy", &npy("<f4", true, "(2, 2)", &f32_bytes(&[1., 3., 2., 4.])), None));
    assert_eq!(first, hash("b.npy", &npy("<f4", false, "(3, 2)", &f32_bytes(&[1., 2., 3., 4., 5., 6.])), Some(2)));
    assert_ne!(first, hash("b.npy", &npy("<f4", false, "(2, 2)", &f32_bytes(&[1., 2., 3., 5.])), None));
    assert_ne!(first, hash("b.npy", &npy("<f4", false, "(2, 2)", &f32_bytes(&[1., 2., 3., 4.])), Some(1)));
}

#[test]
fn data_sets_are_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<DataSet>();
    let folder = TempDir::new().unwrap();
    let values: Vec<f32> = (0..4000).map(|value| value as f32).collect();
    let path = folder.path().join("x.npy");
    std::fs::write(&path, npy("<f4", false, "(1000, 4)", &f32_bytes(&values))).unwrap();
    let set = DataSet::open(&path, None, &[4], None).unwrap();
    assert_eq!(set.samples(&(0..1000).collect::<Vec<_>>()).unwrap(), values);
}
