//! Runs: batches, threads, sharing, and what is refused.

mod network;

use catc_runtime::{Element, InputArray, Model, OpenError, Outputs, RunError, Session, SessionOptions, Tier};
use network::{INPUT, OUTPUT, images, model, program};

fn session(threads: usize) -> Session {
    model().session(&SessionOptions { threads, ..Default::default() }).unwrap()
}

fn run(session: &Session, batch: usize, x: &[f32]) -> Outputs {
    session.run(&[InputArray::f32(&[batch, 2, 6, 6], x)]).unwrap()
}

#[test]
fn batches_and_threads_do_not_change_results() {
    let x = images(9);
    let alone = session(1);
    let single: Vec<Outputs> = x.chunks(INPUT).map(|image| run(&alone, 1, image)).collect();
    let least: Vec<i32> = single.iter().map(|o| o[1].as_index().unwrap()[0]).collect();
    assert!(least.iter().any(|i| *i != least[0]), "the images should differ: {least:?}");
    for threads in [1, 2, 5] {
        let session = session(threads);
        assert_eq!(session.threads(), threads);
        for batch in [1, 2, 9] {
            let outputs = run(&session, batch, &x[..batch * INPUT]);
            assert_eq!(outputs[0].shape, [batch, 3, 6, 6]);
            assert_eq!(outputs[1].shape, [batch]);
            let features = outputs.get("features").unwrap().as_f32().unwrap();
            for (i, expected) in single.iter().take(batch).enumerate() {
                assert_eq!(&features[i * OUTPUT..][..OUTPUT], expected[0].as_f32().unwrap());
            }
            assert_eq!(outputs.get("least").unwrap().as_index().unwrap(), &least[..batch]);
        }
    }
}

#[test]
fn tiers_do_not_change_results() {
    let x = images(3);
    let model = model();
    let expected = run(&session(1), 3, &x);
    for tier in Tier::ALL.into_iter().filter(|t| t.is_available()) {
        let session = model.session(&SessionOptions { tier: Some(tier), ..Default::default() }).unwrap();
        assert_eq!(session.tier(), tier);
        assert_eq!(run(&session, 3, &x), expected, "{tier}");
    }
}

/// NaN and infinities are allowed as inputs.
#[test]
fn not_a_number_is_taken() {
    let mut x = images(4);
    (x[3], x[80], x[150]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    assert_eq!(run(&session(2), 4, &x), run(&session(1), 4, &x));
    // A NaN becomes the zero-point, which stands for 0.
    let mut zero = x.clone();
    zero[3] = 0.0;
    assert_eq!(run(&session(1), 4, &x), run(&session(1), 4, &zero));
}

#[test]
fn one_session_serves_many_threads() {
    let (session, x) = (session(2), images(6));
    let expected = run(&session, 6, &x);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(run(&session, 6, &x), expected);
                }
            });
        }
    });
}

#[test]
fn sessions_share_code_and_outlive_the_model() {
    let model = model();
    let code = |s: &Session| s.layers().map(|l| l.code.as_ptr()).collect::<Vec<_>>();
    let sessions: Vec<Session> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..5)
            .map(|threads| {
                let model = model.clone();
                scope.spawn(move || model.session(&SessionOptions { threads, ..Default::default() }).unwrap())
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(sessions.iter().all(|s| code(s) == code(&sessions[0])), "each session compiled for itself");
    let named = SessionOptions { tier: Some(sessions[0].tier()), ..Default::default() };
    assert_eq!(code(&model.session(&named).unwrap()), code(&sessions[0]));
    drop(model);
    let x = images(1);
    assert_eq!(run(&sessions[0], 1, &x), run(&sessions[3], 1, &x));
}

#[test]
fn models_say_what_they_take_and_give() {
    let bytes = program().to_bytes().unwrap();
    let model = Model::from_bytes(&bytes).unwrap();
    let [image] = model.inputs() else { panic!("{:?}", model.inputs()) };
    assert_eq!((image.name.as_str(), image.element, image.dims.as_slice()), ("image", Element::F32, &[2, 6, 6][..]));
    let names: Vec<_> = model.outputs().iter().map(|o| (o.name.as_str(), o.element)).collect();
    assert_eq!(names, [("features", Element::F32), ("least", Element::Index)]);
    let session = session(1);
    let layers: Vec<_> = session.layers().map(|l| (l.name, l.macs())).collect();
    assert_eq!(layers[1], ("conv", 3 * 2 * 9 * 36));
    assert!(session.layers().any(|l| l.kernel().is_some()));
    let memory = session.memory();
    assert!(memory.workspace > 0 && memory.constants > 0 && memory.code > 0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let session = session(2);
    let x = images(2);
    let index = [1i32; 72];
    let image = InputArray::f32(&[1, 2, 6, 6], &x[..INPUT]);
    let cases: [(&[InputArray], &str); 8] = [
        (&[], "0 input arrays were given, the model takes 1: \"image\""),
        (&[image, image], "2 input arrays were given, the model takes 1"),
        (
            &[InputArray::f32(&[2, 6, 6], &x[..INPUT])],
            "input \"image\" has shape [2, 6, 6], the model takes [batch, 2, 6, 6]",
        ),
        (&[InputArray::f32(&[1, 6, 6, 2], &x[..INPUT])], "has shape [1, 6, 6, 2]"),
        (&[InputArray::f32(&[0, 2, 6, 6], &[])], "with a batch of at least 1"),
        (&[InputArray::f32(&[3, 2, 6, 6], &x)], "input \"image\" has shape [3, 2, 6, 6] but 144 elements"),
        (&[InputArray::f32(&[usize::MAX, 2, 6, 6], &x)], "but 144 elements"),
        (&[InputArray::index(&[1, 2, 6, 6], &index)], "input \"image\" takes f32"),
    ];
    for (inputs, message) in cases {
        let found = session.run(inputs).unwrap_err().to_string();
        assert!(found.contains(message), "{found:?} should contain {message:?}");
    }
    assert!(matches!(session.run(&[]), Err(RunError::InputCount { found: 0, .. })));
    let mut broken = program();
    broken.steps.pop();
    assert!(matches!(Model::from_program(broken), Err(OpenError::Invalid(_))));
    assert!(matches!(Model::from_bytes(b"GIF89a"), Err(OpenError::Format(_))));
    let missing = Model::open("no such folder/model.bin").err().map(|e| e.to_string()).unwrap_or_default();
    assert!(missing.contains("cannot read no such folder/model.bin"), "{missing}");
}

#[test]
fn inputs_must_hold_as_many_images() {
    use catc_runtime::program::*;
    let mut two = program();
    two.tensors.push(two.tensors[0].clone());
    two.inputs.push(Port::new("other", TensorId(6)));
    let add = EpilogueStep::Binary { op: Binary::Add, operand: Operand::Tensor(TensorId(6)), scale: 1.0 };
    two.steps[0].epilogue.steps.push(add);
    let session = Model::from_program(two).unwrap().session(&SessionOptions::default()).unwrap();
    let x = images(2);
    let (both, one) = (InputArray::f32(&[2, 2, 6, 6], &x), InputArray::f32(&[1, 2, 6, 6], &x[..INPUT]));
    let found = session.run(&[both, one]).unwrap_err().to_string();
    assert_eq!(found, "input \"other\" holds 1 images, the first input 2");
    assert!(session.run(&[both, both]).is_ok());
}
