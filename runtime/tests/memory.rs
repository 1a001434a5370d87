//! Machine code is freed with the last session. This test is alone in its file, because it counts the mappings of its process.
#![cfg(target_os = "linux")]

mod network;

use catc_runtime::{InputArray, SessionOptions};

fn executable_mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|l| l.split(' ').nth(1).is_some_and(|flags| flags.contains('x'))).count()
}

#[test]
fn code_is_freed_with_the_last_session() {
    let x = network::images(1);
    let cycle = || {
        let model = network::model();
        let session = model.session(&SessionOptions::default()).unwrap();
        drop(model);
        let held = executable_mappings();
        session.run(&[InputArray::f32(&[1, 2, 6, 6], &x)]).unwrap();
        held
    };
    cycle();
    let before = executable_mappings();
    for _ in 0..20 {
        assert!(cycle() > before, "a session has code");
    }
    assert_eq!(executable_mappings(), before);
}
