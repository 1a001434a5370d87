//! The data of the accuracy measurements, where it is there: in the folder that CATC_SHARED names, or in `../shared`.

use std::path::{Path, PathBuf};

use catc::data::{DataSet, Preprocess, read_labels};

fn shared() -> Option<PathBuf> {
    let folder = match std::env::var_os("CATC_SHARED") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
    };
    let data = folder.join("data");
    if !data.is_dir() {
        println!("skipped: there is no {} (set CATC_SHARED)", data.display());
        return None;
    }
    Some(data)
}

#[test]
fn arrays_and_labels_fit_their_preprocess_files() {
    let Some(data) = shared() else { return };
    for (name, folder, classes) in [("cifar10_resnet20", "cifar10", 10), ("tinyimagenet_resnet20", "tinyimagenet", 200)]
    {
        let preprocess = Preprocess::from_file(&data.join(format!("models/{name}.toml"))).unwrap();
        for (file, samples) in [("calib", 1024), ("calib_extra", 4096), ("test", 4000)] {
            let path = data.join(folder).join(format!("{file}.npy"));
            let set = DataSet::open(&path, Some(&preprocess), &[3, 32, 32]).unwrap();
            assert_eq!(set.len(), samples);
            set.sample::<f32>(samples - 1).unwrap();
            if file == "test" {
                let labels = read_labels(&data.join(folder).join("test_labels.npy"), &set, classes).unwrap();
                assert_eq!(labels.len(), samples);
            }
        }
    }
}

#[test]
fn imagenet_folders_are_decoded_and_labelled() {
    let Some(data) = shared() else { return };
    let preprocess = Preprocess::from_file(&data.join("models/imagenet_squeezenet11.toml")).unwrap();
    let calib = DataSet::open(&data.join("imagenet/calib"), Some(&preprocess), &[3, 224, 224]).unwrap();
    assert_eq!(calib.len(), 1024);
    calib.validate_all().unwrap();
    let test = DataSet::open(&data.join("imagenet/test"), Some(&preprocess), &[3, 224, 224]).unwrap();
    assert_eq!(test.len(), 890);
    test.validate_all().unwrap();
    let by_name = read_labels(&data.join("imagenet/test_labels.csv"), &test, 1000).unwrap();
    let by_order = read_labels(&data.join("imagenet/test_labels.npy"), &test, 1000).unwrap();
    assert_eq!(by_name, by_order);
}
