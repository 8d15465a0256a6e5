use std::time::Duration;

use super::*;
use crate::error::Code;
use crate::model::fake::{Adding, context};

fn serve(model: Adding, parameters: Option<Parameters>) -> (Arc<Servable>, Arc<Adding>, oneshot::Receiver<()>) {
    let (id, faces, model) = (ServableId { name: "m".into(), version: 1 }, model.faces(), Arc::new(model));
    let loaded = Loaded {
        model: model.clone(),
        faces,
        batching: parameters,
        batch_sizes: Vec::new(),
        padded_extents: Vec::new(),
        policy: Policy::default(),
        read: Duration::ZERO,
    };
    let (servable, ended) = Servable::start(id, loaded, &context());
    (servable, model, ended)
}

fn rows(ready: &[usize]) -> Adding {
    Adding::new(1, Merging::Rows { batch_sizes: vec![1, 2, 4] }, ready)
}

fn batched() -> Option<Parameters> {
    Some(Parameters::default())
}

fn x(first: f32, rows: usize) -> Vec<Tensor> {
    let values = (0..rows * 3).map(|i| first + i as f32).collect();
    vec![Tensor::from_vec([rows, 3], values).expect("three a row")]
}

async fn first_of(servable: &Arc<Servable>, first: f32, rows: usize) -> Result<f32> {
    let answer = servable.predict(x(first, rows), asked(None)).await?;
    assert_eq!(answer.outputs[0].shape().dims(), [rows, 3]);
    Ok(answer.outputs[0].values::<f32>()?[0])
}

fn asked(deadline: Option<Instant>) -> Asked {
    Asked { deadline, priority: Priority::Normal, guard: Box::new(()) }
}

fn runs(model: &Adding) -> Vec<usize> {
    model.runs.lock().expect("unpoisoned").clone()
}

#[tokio::test(start_paused = true)]
async fn requests_are_merged_into_ready_sizes_only() {
    let (servable, model, _ended) = serve(rows(&[1, 2]), batched());
    assert_eq!(first_of(&servable, 5.0, 3).await.expect("divided"), 6.0);
    let mut sizes = runs(&model);
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 2]);
    model.ready.lock().expect("unpoisoned").push(4);
    for _ in 0..2 {
        assert_eq!(first_of(&servable, 5.0, 3).await.expect("padded"), 6.0);
        assert_eq!(runs(&model).last(), Some(&4), "what gets ready is used");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_needs_a_compile_goes_beside_the_queue() {
    let (servable, model, _ended) = serve(rows(&[]), batched());
    let many: Vec<_> = (0..5).map(|i| tokio::spawn(servable.predict(x(i as f32, 3), asked(None)))).collect();
    let start = tokio::time::Instant::now();
    for one in many {
        one.await.expect("no panic").expect("an answer");
    }
    assert_eq!(runs(&model), [3; 5]);
    assert!(start.elapsed() < Duration::from_millis(20), "more than the slots ran at a time");
    let deadline = Some(Instant::from(tokio::time::Instant::now()) + Duration::from_millis(1));
    let error = servable.predict(x(0.0, 3), asked(deadline)).await.expect_err("too hasty");
    assert_eq!(error.code(), Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn models_that_may_not_merge_run_one_request_at_a_time() {
    let alone = Adding::new(1, Merging::Alone { reason: "rows mix".into() }, &[2]);
    for (model, parameters) in [(alone, batched()), (rows(&[2]), None)] {
        let (servable, model, _ended) = serve(model, parameters);
        let both = tokio::join!(first_of(&servable, 1.0, 2), first_of(&servable, 7.0, 2));
        assert_eq!((both.0.expect("an answer"), both.1.expect("an answer")), (2.0, 8.0));
        assert_eq!(runs(&model), [2, 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn sizes_follow_the_parameters() {
    let parameters =
        Parameters { max_batch_size: Some(2), enable_large_batch_splitting: Some(false), ..Parameters::default() };
    let (servable, model, _ended) = serve(rows(&[1, 2, 4]), Some(parameters));
    let error = first_of(&servable, 0.0, 3).await.expect_err("three rows");
    assert_eq!(
        (error.code(), error.message()),
        (Code::InvalidArgument, "Task size 3 is larger than maximum input batch size 2")
    );
    assert_eq!(first_of(&servable, 0.0, 2).await.expect("two rows"), 1.0);
    assert_eq!(runs(&model), [2]);
}

#[tokio::test(start_paused = true)]
async fn bad_requests_never_reach_the_engine() {
    let (servable, model, _ended) = serve(rows(&[1, 2, 4]), batched());
    let refusal = |inputs| {
        let servable = Arc::clone(&servable);
        async move { servable.predict(inputs, asked(None)).await.expect_err("a bad request").message().to_string() }
    };
    let wide = Tensor::from_vec([1, 4], vec![0.0f32; 4]).expect("four");
    assert_eq!(refusal(vec![wide]).await, "node Add: [1,4] does not end with 3");
    assert_eq!(
        refusal(vec![Tensor::scalar(1.0f32)]).await,
        "Batching Run() input tensors must have at least one dimension"
    );
    assert!(runs(&model).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_progress_keeps_the_version() {
    let (servable, _, mut ended) = serve(rows(&[1]), batched());
    assert!(servable.face("").is_some() && servable.face("other").is_none());
    let running = tokio::spawn(servable.predict(x(1.0, 1), asked(None)));
    drop(servable);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(ended.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Empty));
    running.await.expect("no panic").expect("an answer");
    assert!(ended.await.is_err(), "the sender is dropped with the version");
}
