//! Tests of initializers of every type in every form of storage.

use super::*;
use crate::proto::StringStringEntryProto;
use crate::proto::tensor_proto::DataLocation;
use crate::{ImportOptions, import};
use catc_ir::TensorData;
use half::{bf16, f16};
use std::path::Path;

/// Imports a tensor as the only constant of a graph.
fn read(t: TensorProto) -> Result<TensorData, String> {
    let m = model(13).input("x", &["N"]).output("y").initializer(TensorProto { name: Some("t".into()), ..t });
    let imported = m.node("Identity", "t", "y", &[]).import()?;
    let (_, constant) = imported.graph.constants().next().unwrap();
    Ok(constant.tensor.data().clone())
}

fn typed(ty: DataType, count: i64, fill: impl FnOnce(&mut TensorProto)) -> TensorProto {
    let mut t = TensorProto { data_type: Some(ty as i32), dims: vec![count], ..Default::default() };
    fill(&mut t);
    t
}

#[test]
fn raw_and_typed_data_give_the_same() {
    use DataType::*;
    let reals = TensorData::F32(vec![1.0, -2.5]);
    let raw = |ty, bytes: &[u8]| raw_tensor("", ty, &[2], bytes.to_vec());
    let bytes = |a: &[u8], b: &[u8]| [a, b].concat();
    assert_eq!(read(raw(Float, &bytes(&1f32.to_le_bytes(), &(-2.5f32).to_le_bytes()))), Ok(reals.clone()));
    assert_eq!(read(raw(Double, &bytes(&1f64.to_le_bytes(), &(-2.5f64).to_le_bytes()))), Ok(reals.clone()));
    let half = [f16::from_f32(1.0), f16::from_f32(-2.5)];
    assert_eq!(read(raw(Float16, &bytes(&half[0].to_le_bytes(), &half[1].to_le_bytes()))), Ok(reals.clone()));
    let brain = [bf16::from_f32(1.0), bf16::from_f32(-2.5)];
    assert_eq!(read(raw(Bfloat16, &bytes(&brain[0].to_le_bytes(), &brain[1].to_le_bytes()))), Ok(reals.clone()));
    assert_eq!(read(typed(Float, 2, |t| t.float_data = vec![1.0, -2.5])), Ok(reals.clone()));
    assert_eq!(read(typed(Double, 2, |t| t.double_data = vec![1.0, -2.5])), Ok(reals.clone()));
    let bits = |h: [u16; 2]| h.map(i32::from).to_vec();
    assert_eq!(read(typed(Float16, 2, |t| t.int32_data = bits(half.map(f16::to_bits)))), Ok(reals.clone()));
    assert_eq!(read(typed(Bfloat16, 2, |t| t.int32_data = bits(brain.map(bf16::to_bits)))), Ok(reals));

    let whole = TensorData::I64(vec![-1, 7]);
    assert_eq!(read(raw(Int64, &bytes(&(-1i64).to_le_bytes(), &7i64.to_le_bytes()))), Ok(whole.clone()));
    assert_eq!(read(raw(Int32, &bytes(&(-1i32).to_le_bytes(), &7i32.to_le_bytes()))), Ok(whole.clone()));
    assert_eq!(read(raw(Int16, &bytes(&(-1i16).to_le_bytes(), &7i16.to_le_bytes()))), Ok(whole.clone()));
    assert_eq!(read(raw(Int8, &[255, 7])), Ok(whole.clone()));
    assert_eq!(read(typed(Int64, 2, |t| t.int64_data = vec![-1, 7])), Ok(whole.clone()));
    for ty in [Int32, Int16, Int8] {
        assert_eq!(read(typed(ty, 2, |t| t.int32_data = vec![-1, 7])), Ok(whole.clone()));
    }
    let unsigned = TensorData::I64(vec![255, 7]);
    assert_eq!(read(raw(Uint8, &[255, 7])), Ok(unsigned.clone()));
    assert_eq!(read(raw(Uint16, &[255, 0, 7, 0])), Ok(unsigned.clone()));
    assert_eq!(read(raw(Uint32, &[255, 0, 0, 0, 7, 0, 0, 0])), Ok(unsigned.clone()));
    assert_eq!(read(typed(Uint64, 2, |t| t.uint64_data = vec![255, 7])), Ok(unsigned.clone()));
    assert_eq!(read(typed(Uint32, 2, |t| t.uint64_data = vec![255, 7])), Ok(unsigned.clone()));
    assert_eq!(read(typed(Uint8, 2, |t| t.int32_data = vec![255, 7])), Ok(unsigned));
    assert_eq!(read(raw(Bool, &[2, 0])), Ok(TensorData::Bool(vec![true, false])));
    // An empty raw field beside the typed field does not count as data.
    let both = typed(Float, 1, |t| (t.float_data, t.raw_data) = (vec![3.0], Some(Bytes::new())));
    assert_eq!(read(both), Ok(TensorData::F32(vec![3.0])));
}

#[test]
fn what_does_not_fit_is_refused() {
    use DataType::*;
    let cases = [
        typed(String, 1, |t| t.string_data = vec![b"a".to_vec()]),
        typed(Float8e8m0, 1, |t| t.raw_data = Some(Bytes::from_static(&[0]))),
        typed(Undefined, 1, |_| {}),
        TensorProto { data_type: Some(99), ..Default::default() },
        typed(Float, 3, |t| t.float_data = vec![1.0]),
        typed(Float, 3, |_| {}),
        raw_tensor("", Float, &[2, 2], vec![0; 15]),
        raw_tensor("", Float, &[1 << 30, 1 << 30], vec![0; 16]),
        raw_tensor("", Float, &[i64::MAX, i64::MAX, 0], vec![]),
        raw_tensor("", Float, &[-1], vec![0; 4]),
        raw_tensor("", Float, &[1 << 33], vec![0; 4]),
        typed(Double, 1, |t| t.double_data = vec![1e300]),
        typed(Uint64, 1, |t| t.uint64_data = vec![u64::MAX]),
        typed(Int8, 1, |t| t.int32_data = vec![300]),
        typed(Float, 1, |t| t.segment = Some(Default::default())),
        typed(Float, 1, |t| t.data_location = Some(DataLocation::External as i32)),
    ];
    insta::assert_snapshot!(cases.map(|t| read(t).unwrap_err()).join("\n"));
}

/// A model whose only tensor, with two f32 elements, is in another file.
fn external(entries: &[(&str, &str)]) -> ModelBuilder {
    let entry = |(k, v): &(&str, &str)| StringStringEntryProto { key: Some(k.to_string()), value: Some(v.to_string()) };
    let t = TensorProto {
        name: Some("t".into()),
        data_type: Some(DataType::Float as i32),
        dims: vec![2],
        data_location: Some(DataLocation::External as i32),
        external_data: entries.iter().map(entry).collect(),
        ..Default::default()
    };
    model(13).input("x", &["N", "2"]).output("y").initializer(t).node("Add", "x t", "y", &[])
}

fn save(folder: &Path, m: &ModelBuilder) -> std::path::PathBuf {
    let path = folder.join("model.onnx");
    std::fs::write(&path, m.bytes()).unwrap();
    path
}

#[test]
fn external_data_is_read_from_the_models_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    let bytes: Vec<u8> = [9.0f32, 1.0, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    for location in ["data.bin", "sub/data.bin", "./data.bin"] {
        std::fs::write(folder.path().join(location), &bytes).unwrap();
        let path = save(folder.path(), &external(&[("location", location), ("offset", "4"), ("length", "8")]));
        let imported = import(&path, &ImportOptions::default()).unwrap();
        let (_, constant) = imported.graph.constants().next().unwrap();
        assert_eq!(constant.tensor.as_f32(), Some(&[1.0, 2.0][..]));
    }
}

#[test]
fn external_data_may_lie_beyond_what_a_message_can_hold() {
    let folder = tempfile::tempdir().unwrap();
    // The file is sparse: only the last bytes are written.
    let offset = 3u64 << 30;
    let mut file = std::fs::File::create(folder.path().join("data.bin")).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(offset)).unwrap();
    std::io::Write::write_all(&mut file, &[1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat()).unwrap();
    let entries = [("location", "data.bin"), ("offset", &offset.to_string()), ("length", "8")];
    let imported = import(&save(folder.path(), &external(&entries)), &ImportOptions::default()).unwrap();
    let (_, constant) = imported.graph.constants().next().unwrap();
    assert_eq!(constant.tensor.as_f32(), Some(&[1.0, 2.0][..]));
}

#[cfg(unix)]
#[test]
fn external_data_elsewhere_is_refused() {
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().join("model");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(outside.path().join("secret"), [0; 8]).unwrap();
    std::fs::write(folder.join("short"), [0; 8]).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), folder.join("link")).unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.join("up")).unwrap();
    let absolute = outside.path().join("secret");
    let cases: &[&[(&str, &str)]] = &[
        &[("location", absolute.to_str().unwrap())],
        &[("location", "../secret")],
        &[("location", "sub/../../secret")],
        &[("location", "link")],
        &[("location", "up/secret")],
        &[("location", "up")],
        &[("location", "gone")],
        &[("location", "")],
        &[("location", ".")],
        &[],
        &[("location", "short"), ("offset", "4")],
        &[("location", "short"), ("offset", "18446744073709551615")],
        &[("location", "short"), ("offset", "-1")],
        &[("location", "short"), ("length", "4")],
        &[("location", "short"), ("length", "1099511627776")],
    ];
    let errors = cases.iter().map(|entries| {
        let error = import(&save(&folder, &external(entries)), &ImportOptions::default()).unwrap_err().to_string();
        error.replace(outside.path().to_str().unwrap(), "OUTSIDE").replace("OUTSIDE/model/model.onnx: ", "")
    });
    insta::assert_snapshot!(errors.collect::<Vec<_>>().join("\n"));
    let inside = external(&[("location", "short")]);
    insta::assert_snapshot!(inside.error());
}
