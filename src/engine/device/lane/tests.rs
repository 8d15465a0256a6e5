use super::super::adapter::Mask;
use super::super::job::Caller;
use super::super::replay::Replay;
use super::*;
use crate::engine::ir::{Buffer, BufferId, Chain, Dispatch, Link, OutputPlace, Port, Segment, Slot, Storage};
use crate::engine::kernels::{self, map};
use crate::error::Code;
use crate::tensor::DType;

const COUNT: usize = 70;

/// y = max(x, 0) on `COUNT` elements of `dtype`.
fn relu(dtype: DType, storage: Storage) -> Arc<Program> {
    let value = format!("max(x[i], {}(0))", storage.wgsl());
    Arc::new(map_of(&value, dtype, storage, COUNT, 1))
}

/// y = x + `times` on `count` floats, in as many dispatches, an odd number, each of which counts for a second's work.
fn count_up(count: usize, times: usize) -> Arc<Program> {
    let program = map_of("x[i] + 1.0", DType::F32, Storage::F32, count, times);
    Arc::new(Program { flops: 1e11 * times as f64, ..program })
}

/// `value` of x on `count` elements of `dtype`, `times` times, by a map kernel that reads its input where the chain's value would stand.
fn map_of(value: &str, dtype: DType, storage: Storage, count: usize, times: usize) -> Program {
    let shape = Shape::new([count]);
    let chain = Chain::identity(storage.class());
    let text = format!("array<{}>", storage.wgsl());
    let link = Link { defines: &[], class: storage.class(), out: storage, chain: &chain, library: &kernels::function };
    let mut kernel = map::SHADER.link(&link).expect("the map links");
    kernel.source = kernel
        .source
        .replace("store(Value(0), i, 0u)", &format!("store(Value({value}), i, 0u)"))
        .replace("@compute", &format!("@group(0) @binding(2) var<storage, read> x: {text};\n@compute"))
        .into();
    kernel.bindings.push(crate::engine::ir::Binding::Read);
    let scratch = |pool| Buffer::Scratch { bytes: (count * 4) as u64, pool };
    let port = |buffer| Port { slot: Slot(buffer), buffer: BufferId(buffer), dtype, storage, shape: shape.clone() };
    let dispatch = |index: usize| Dispatch {
        label: "map".into(),
        kernel: kernel.clone(),
        // From 0 to 1, then back, and so on.
        buffers: vec![BufferId((index + 1) % 2), BufferId(index % 2)],
        uniforms: vec![map::Params { count: count as u32 }.words().to_vec()],
        groups: [count.div_ceil(64) as u32, 1, 1],
    };
    Program {
        buffers: vec![scratch(0), scratch(1)],
        segments: vec![Segment {
            uploads: vec![port(0)],
            dispatches: (0..times).map(dispatch).collect(),
            downloads: vec![port(1)],
            ..Segment::default()
        }],
        slots: 2,
        inputs: vec![Slot(0)],
        outputs: vec![OutputPlace::Slot(Slot(1))],
        rest: None,
        known: Vec::new(),
        nodes: 1,
        flops: 0.0,
    }
}

/// Two lanes on every adapter that is there: one records its batches, where that is possible, and one encodes them.
fn lanes() -> Vec<Lane> {
    let adapters = Adapter::all();
    if adapters.is_empty() {
        eprintln!("skipped: no adapter");
    }
    let open = |adapter: &Adapter, replay| {
        assert!(adapter.profile(&Mask::default()).max_storage_buffers >= 2);
        let options = LaneOptions { replay, ..LaneOptions::default() };
        let lane = Lane::open(adapter, 0, &options).expect("an adapter gives a device");
        assert_eq!(lane.replays_recordings(), replay == Replay::Auto && adapter.records());
        lane
    };
    adapters.iter().flat_map(|adapter| [Replay::Auto, Replay::Encoded].map(|replay| open(adapter, replay))).collect()
}

fn ramp(from: f32) -> Tensor {
    Tensor::from_vec([COUNT], (0..COUNT).map(|i| i as f32 + from).collect()).expect("as many as the shape says")
}

/// Every eighth of these leaves before its turn comes.
struct Numbered {
    turn: usize,
    sender: mpsc::SyncSender<(usize, Result<SegmentOutput>)>,
}

impl Caller for Numbered {
    fn refuse(&self) -> Option<Error> {
        (self.turn % 8 == 7).then(|| Error::cancelled("the caller left"))
    }

    fn done(self: Box<Self>, result: Result<SegmentOutput>) {
        self.sender.send((self.turn, result)).expect("the test listens");
    }

    fn returned(self: Box<Self>, loss: Error) {
        self.sender.send((self.turn, Err(loss))).expect("the test listens");
    }
}

#[test]
fn jobs_in_flight_get_their_own_answers() {
    for lane in lanes() {
        let executable = lane.prepare(&relu(DType::F32, Storage::F32)).expect("it fits");
        lane.warm(&executable).expect("it runs");
        let (sender, answers) = mpsc::sync_channel(64);
        for turn in 0..64 {
            let sender = sender.clone();
            let job = Job {
                executable: Arc::clone(&executable),
                segment: 0,
                tensors: vec![ramp(-(turn as f32))],
                caller: Box::new(Numbered { turn, sender }),
            };
            lane.submit(job).expect("the queue holds them");
        }
        for (turn, result) in answers.iter().take(64) {
            if turn % 8 == 7 {
                assert_eq!(result.expect_err("it was refused").code(), Code::Cancelled);
                continue;
            }
            let found = result.expect("it ran").tensors;
            let expected: Vec<f32> = (0..COUNT).map(|i| (i as f32 - turn as f32).max(0.0)).collect();
            assert_eq!(found[0].to_f32s().expect("floats"), expected);
        }
        assert_eq!(lane.backlog(), 0);
        assert!(lane.busy() > Duration::ZERO);
    }
}

/// Is asked whether it still wants its run before each part: the first time it waits for a word, the third time it may have left.
struct Patient {
    word: mpsc::Receiver<()>,
    asked: std::cell::Cell<usize>,
    leaves: bool,
    name: &'static str,
    sender: mpsc::SyncSender<(&'static str, Result<SegmentOutput>)>,
}

impl Caller for Patient {
    fn refuse(&self) -> Option<Error> {
        let asked = self.asked.replace(self.asked.get() + 1);
        if asked == 0 {
            self.word.recv().expect("the test says it");
        }
        (self.leaves && asked == 2).then(|| Error::cancelled("the caller left"))
    }

    fn done(self: Box<Self>, result: Result<SegmentOutput>) {
        self.sender.send((self.name, result)).expect("the test listens");
    }

    fn returned(self: Box<Self>, loss: Error) {
        self.sender.send((self.name, Err(loss))).expect("the test listens");
    }
}

/// On each lane hands over a long run, then one that computes in its arena, then a short one; what was answered, in order.
fn long_and_short(leaves: bool, check: impl Fn(Vec<(&'static str, Result<SegmentOutput>)>)) {
    for lane in lanes() {
        let programs = [count_up(64 * COUNT, 7), count_up(64 * COUNT, 1), count_up(COUNT, 1)];
        let (sender, answers) = mpsc::sync_channel(8);
        let words = programs.iter().zip(["long", "alike", "short"]).map(|(program, name)| {
            let executable = lane.prepare(program).expect("it fits");
            let (say, word) = mpsc::sync_channel(1);
            let leaves = leaves && name == "long";
            let caller = Patient { word, asked: Default::default(), leaves, name, sender: sender.clone() };
            let shape = program.segments[0].uploads[0].shape.clone();
            let input = Tensor::from_vec(shape.clone(), vec![1.0f32; shape.elements()]).expect("as many");
            let job = Job { executable, segment: 0, tensors: vec![input], caller: Box::new(caller) };
            lane.submit(job).expect("the queue holds them");
            say
        });
        // All wait before the first part is submitted.
        let words: Vec<_> = words.collect();
        words.iter().for_each(|say| say.send(()).expect("it waits"));
        check(answers.iter().take(3).collect());
        assert_eq!(lane.backlog(), 0);
    }
}

fn value(output: &SegmentOutput) -> f32 {
    let values = output.tensors[0].to_f32s().expect("floats");
    assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
    values[0]
}

#[test]
fn a_short_run_goes_between_the_parts_of_a_long_one_and_spoils_nothing() {
    long_and_short(false, |answers| {
        let found: Vec<_> = answers.iter().map(|(name, r)| (*name, value(r.as_ref().expect("it ran")))).collect();
        assert_eq!(found, [("short", 2.0), ("long", 8.0), ("alike", 2.0)]);
    });
}

#[test]
fn a_long_run_that_nobody_waits_for_ends_between_its_parts() {
    long_and_short(true, |answers| {
        let codes = answers.iter().map(|(name, r)| (*name, r.as_ref().err().map(Error::code)));
        assert_eq!(codes.collect::<Vec<_>>(), [("short", None), ("long", Some(Code::Cancelled)), ("alike", None)]);
    });
}

#[test]
fn wide_integers_are_narrowed_on_the_way_and_refused_when_too_wide() {
    for lane in lanes() {
        let executable = lane.prepare(&relu(DType::I64, Storage::I32)).expect("it fits");
        let mut values: Vec<i64> = (0..COUNT as i64).map(|i| i - 5).collect();
        let input = Tensor::from_vec([COUNT], values.clone()).expect("seventy");
        let found = lane.run(&executable, vec![input]).expect("it runs").tensors;
        let expected: Vec<i64> = values.iter().map(|v| (*v).max(0)).collect();
        assert_eq!(found[0].to_i64s().expect("integers"), expected);

        values[3] = 1 << 40;
        let input = Tensor::from_vec([COUNT], values).expect("seventy");
        let error = lane.run(&executable, vec![input]).expect_err("one value does not fit");
        assert_eq!(error.code(), Code::InvalidArgument);
    }
}

#[test]
fn a_lost_lane_answers_everybody_with_unavailable() {
    for lane in lanes() {
        let executable = lane.prepare(&relu(DType::F32, Storage::F32)).expect("it fits");
        lane.run(&executable, vec![ramp(0.0)]).expect("it runs before");
        lane.simulate_loss();
        assert!(lane.is_lost());
        let run = lane.run(&executable, vec![ramp(0.0)]).expect_err("nothing runs");
        let warm = lane.warm(&executable).expect_err("nothing is warmed");
        let prepared = lane.prepare(executable.program()).expect_err("nothing is prepared");
        assert_eq!([run, warm, prepared].map(|e| e.code()), [Code::Unavailable; 3]);
        assert_eq!(lane.backlog(), 0);
    }
}

#[test]
fn memory_is_given_back_with_the_executable() {
    for lane in lanes() {
        let first = lane.prepare(&relu(DType::F32, Storage::F32)).expect("it fits");
        let once = lane.memory_bytes();
        let second = lane.prepare(first.program()).expect("it fits");
        assert_eq!(lane.pipeline_count(), 1, "equal kernels share a pipeline");
        assert!(lane.memory_bytes() > once, "parameters are an executable's own");
        drop(second);
        assert_eq!(lane.memory_bytes(), once);
    }
}

#[test]
fn a_lane_that_is_let_go_has_answered_and_ended() {
    for lane in lanes() {
        let executable = lane.prepare(&relu(DType::F32, Storage::F32)).expect("it fits");
        let (sender, answers) = mpsc::sync_channel(8);
        for turn in 0..4 {
            let caller = Box::new(Numbered { turn, sender: sender.clone() });
            let job = Job { executable: Arc::clone(&executable), segment: 0, tensors: vec![ramp(0.0)], caller };
            lane.submit(job).expect("the queue holds them");
        }
        let shared = Arc::downgrade(&lane.shared);
        drop((lane, sender));
        // Every answer is there without waiting, and nothing holds the device but the executable.
        assert_eq!(answers.try_iter().filter(|(_, result)| result.is_ok()).count(), 4);
        assert_eq!(shared.strong_count(), 0);
    }
}
