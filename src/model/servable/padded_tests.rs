use std::time::Duration;

use super::*;
use crate::error::Code;
use crate::model::fake::{Summing, context};

/// A version whose requests wait for company until four rows are there, or for a second.
fn serve(model: Summing, policy: Policy) -> (Arc<Servable>, Arc<Summing>) {
    serve_rounded(model, policy, &[])
}

/// The same, with rows filled up to one of these extents.
fn serve_rounded(model: Summing, policy: Policy, extents: &[usize]) -> (Arc<Servable>, Arc<Summing>) {
    let id = ServableId { name: "m".into(), version: 1 };
    let faces = Faces::new(model.signature(), Default::default());
    let parameters = Parameters {
        max_batch_size: Some(4),
        batch_timeout: Duration::from_secs(1),
        pad_variable_length_inputs: true,
        ..Parameters::default()
    };
    let model = Arc::new(model);
    let batch_sizes = parameters.batch_sizes();
    let (batching, padded_extents) = (Some(parameters), extents.to_vec());
    let loaded = Loaded {
        model: model.clone(),
        faces,
        batching,
        batch_sizes,
        padded_extents,
        policy,
        read: std::time::Duration::ZERO,
    };
    let (servable, _ended) = Servable::start(id, loaded, &context());
    (servable, model)
}

fn padding() -> (Arc<Servable>, Arc<Summing>) {
    serve(Summing::new(1000), Policy::default())
}

fn row(values: &[f32]) -> Vec<Tensor> {
    vec![Tensor::from_vec([1, values.len()], values.to_vec()).expect("one row")]
}

fn asked(deadline: Option<Instant>) -> Asked {
    Asked { deadline, priority: Priority::Normal, guard: Box::new(()) }
}

fn ask(servable: &Arc<Servable>, inputs: Vec<Tensor>) -> tokio::task::JoinHandle<Result<Prediction>> {
    tokio::spawn(servable.predict(inputs, asked(None)))
}

async fn sums(asking: tokio::task::JoinHandle<Result<Prediction>>) -> Result<Vec<f32>> {
    let answer = asking.await.expect("no panic")?;
    Ok(answer.outputs[0].values::<f32>()?.into_owned())
}

fn runs(model: &Summing) -> Vec<Vec<usize>> {
    model.runs.lock().expect("unpoisoned").iter().map(|shape| shape.dims().to_vec()).collect()
}

/// Asks for rows of one, two and four numbers and two rows of two; gives the sums.
async fn mixed(servable: &Arc<Servable>) -> Vec<Vec<f32>> {
    let asking = [
        ask(servable, row(&[5.0])),
        ask(servable, row(&[1.0, 2.0, 3.0, 4.0])),
        ask(servable, vec![Tensor::from_vec([2, 2], vec![7.0f32, 1.0, 2.0, 3.0]).expect("two rows")]),
    ];
    let mut found = Vec::new();
    for one in asking {
        found.push(sums(one).await.expect("an answer"));
    }
    found
}

#[tokio::test(start_paused = true)]
async fn requests_of_different_lengths_share_a_batch() {
    let (servable, model) = padding();
    // Each is padded with its first number, the second row of the last with that of the first, too.
    let expected = [vec![20.0], vec![10.0], vec![22.0, 19.0]];
    let start = tokio::time::Instant::now();
    assert_eq!(mixed(&servable).await, expected);
    assert_eq!(start.elapsed(), Duration::from_millis(60), "it is compiled, then run");
    assert_eq!(mixed(&servable).await, expected);
    assert_eq!(start.elapsed(), Duration::from_millis(70), "it is there");
    assert_eq!(runs(&model), [[4, 4], [4, 4]]);
    let tally = servable.batching().tally;
    assert_eq!((tally.batches, tally.rows, tally.failed), (2, 8, 0));
}

#[tokio::test(start_paused = true)]
async fn extents_are_filled_up_to_those_that_the_operator_names() {
    let (servable, model) = serve_rounded(Summing::new(1000), Policy::default(), &[3, 8]);
    assert_eq!(mixed(&servable).await, [vec![40.0], vec![14.0], vec![50.0, 47.0]]);
    let six = ask(&servable, vec![Tensor::from_vec([6, 2], vec![1.0f32; 12]).expect("six rows")]);
    assert_eq!(sums(six).await.expect("an answer"), [3.0; 6], "the parts of one request are filled up alike");
    let four = ask(&servable, vec![Tensor::from_vec([4, 9], vec![1.0f32; 36]).expect("four rows")]);
    assert_eq!(sums(four).await.expect("an answer"), [9.0; 4]);
    let mut runs = runs(&model);
    runs.sort_unstable();
    assert_eq!(runs, [[2, 3], [4, 3], [4, 8], [4, 9]]);
}

#[tokio::test(start_paused = true)]
async fn what_must_be_compiled_holds_nobody_up() {
    let (servable, model) = padding();
    model.ready.lock().expect("unpoisoned").push(Shape::new([4, 2]));
    let four = |values: [f32; 2]| vec![Tensor::from_vec([4, 2], values.repeat(4)).expect("four rows")];
    // Its shapes have passed the checks, so that it is ready at once.
    assert_eq!(sums(ask(&servable, four([1.0, 1.0]))).await.expect("an answer"), [2.0; 4]);
    let long = ask(&servable, vec![Tensor::from_vec([4, 3], vec![1.0f32; 12]).expect("four rows")]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let start = tokio::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(sums(ask(&servable, four([2.0, 2.0]))).await.expect("an answer"), [4.0; 4]);
        assert_eq!(servable.waiting().preparing, 1);
    }
    assert_eq!(start.elapsed(), Duration::from_millis(30));
    assert_eq!(sums(long).await.expect("an answer"), [3.0; 4]);
    assert_eq!(servable.waiting().preparing, 0);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_run_together_runs_apart() {
    let (servable, model) = serve(Summing::new(4), Policy::default());
    let asking = [&[1.0, 2.0][..], &[3.0], &[4.0; 5], &[6.0, 6.0, 6.0]].map(|values| ask(&servable, row(values)));
    let mut found = Vec::new();
    for one in asking {
        found.push(sums(one).await.map_err(|error| (error.code(), error.message().to_owned())));
    }
    let too_long = (Code::ResourceExhausted, "[1,5] takes too much memory".to_owned());
    assert_eq!(found, [Ok(vec![3.0]), Ok(vec![3.0]), Err(too_long), Ok(vec![18.0])]);
    assert_eq!(servable.batching().tally.closed[&Closed::Apart], 3);
    assert!(runs(&model).iter().all(|shape| shape[0] == 1), "{:?}", runs(&model));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_is_made_anew_without_the_one_to_blame() {
    let (servable, _) = padding();
    let asking = [1.0, f32::INFINITY, 2.0, 3.0].map(|value| ask(&servable, row(&[value; 2])));
    let mut found = Vec::new();
    for one in asking {
        found.push(sums(one).await.map_err(|error| error.message().to_owned()));
    }
    assert_eq!(found, [Ok(vec![2.0]), Err("infinity in a run".to_owned()), Ok(vec![4.0]), Ok(vec![6.0])]);
}

#[tokio::test(start_paused = true)]
async fn divided_requests_are_not_padded() {
    let (servable, model) = padding();
    let long = ask(&servable, row(&[1.0; 9]));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let six = ask(&servable, vec![Tensor::from_vec([6, 2], vec![1.0f32; 12]).expect("six rows")]);
    assert_eq!(sums(six).await.expect("an answer"), [2.0; 6]);
    assert_eq!(sums(long).await.expect("an answer"), [9.0]);
    let mut runs = runs(&model);
    runs.sort_unstable();
    assert_eq!(runs, [[1, 9], [2, 2], [4, 2]]);
}

#[tokio::test(start_paused = true)]
async fn vast_requests_are_not_laid_beside_small_ones() {
    let (servable, model) = serve(Summing::new(1000), Policy { padded_bytes_max: 400, ..Policy::default() });
    let asking = [ask(&servable, row(&[1.0; 60])), ask(&servable, row(&[1.0; 3])), ask(&servable, row(&[1.0; 4]))];
    let mut found = Vec::new();
    for one in asking {
        found.extend(sums(one).await.expect("an answer"));
    }
    assert_eq!(found, [60.0, 4.0, 4.0]);
    assert_eq!(runs(&model), [[1, 60], [2, 4]]);
    let policy = Policy { padded_bytes_max: 400, ..Policy::default() };
    let (servable, model) = serve_rounded(Summing::new(1000), policy, &[10, 500]);
    assert_eq!(sums(ask(&servable, row(&[1.0; 20]))).await.expect("an answer"), [20.0]);
    assert_eq!(sums(ask(&servable, row(&[1.0; 2]))).await.expect("an answer"), [10.0]);
    assert_eq!(runs(&model), [[1, 20], [1, 10]], "500 numbers would take 2000 bytes");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_or_is_late_while_shapes_are_compiled_is_not_run() {
    let (servable, model) = padding();
    let now = tokio::time::Instant::now();
    let four = || vec![Tensor::from_vec([4, 2], vec![1.0f32; 8]).expect("four rows")];
    let deadline = Some(Instant::from(now) + Duration::from_millis(20));
    let late = servable.predict(four(), asked(deadline)).await.expect_err("too hasty");
    assert_eq!((late.code(), now.elapsed()), (Code::DeadlineExceeded, Duration::from_millis(20)));
    let gone = ask(&servable, vec![Tensor::from_vec([4, 3], vec![1.0f32; 12]).expect("four rows")]);
    tokio::time::sleep(Duration::from_millis(20)).await;
    gone.abort();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(runs(&model).is_empty() && servable.waiting().preparing == 0);
    assert_eq!(sums(ask(&servable, four())).await.expect("an answer"), [2.0; 4]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_padded_waits_apart() {
    let (servable, model) = padding();
    let empty = ask(&servable, vec![Tensor::from_vec([4, 0], Vec::<f32>::new()).expect("four rows of nothing")]);
    let error = sums(ask(&servable, vec![Tensor::from_vec([1], vec![1.0f32]).expect("one")])).await;
    assert_eq!(error.expect_err("it has no axis 1").message(), "node ReduceSum: [1] has no axis 1");
    assert_eq!(mixed(&servable).await, [vec![20.0], vec![10.0], vec![22.0, 19.0]]);
    assert_eq!(sums(empty).await.expect("an answer"), [0.0; 4]);
    assert_eq!(runs(&model).len(), 2, "{:?}", runs(&model));
}
