//! Answers to right requests.

use coracle::api::Client;
use coracle::tensor::Tensor;

use crate::server::{Server, has_adapter, model};

/// The held-out digits that the repository carries, rows of 64 pixels, and what they are.
pub(crate) fn digits() -> (Vec<Vec<f32>>, Vec<usize>) {
    let folder = model("digits").join("samples");
    let text = std::fs::read_to_string(folder.join("images.json")).expect("the samples are there");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    fn leaves(value: &serde_json::Value, into: &mut Vec<f32>) {
        match value {
            serde_json::Value::Array(items) => items.iter().for_each(|item| leaves(item, into)),
            number => into.push(number.as_f64().expect("a number") as f32),
        }
    }
    let mut pixels = Vec::new();
    leaves(&json, &mut pixels);
    let labels = std::fs::read_to_string(folder.join("labels.txt")).expect("the labels are there");
    let labels = labels.split_whitespace().map(|l| l.parse().expect("a digit")).collect();
    (pixels.chunks(64).map(<[f32]>::to_vec).collect(), labels)
}

/// Some digits as one input.
pub(crate) fn batch(rows: &[Vec<f32>]) -> Vec<(String, Tensor)> {
    let tensor = Tensor::from_vec([rows.len(), 1, 8, 8], rows.concat()).expect("64 pixels each");
    vec![("image".to_owned(), tensor)]
}

async fn client(server: &Server) -> Client {
    Client::connect(&server.grpc, None).await.expect("the server answers")
}

async fn ask(client: &Client, model: &str, inputs: &[(&str, Tensor)]) -> Vec<(String, Tensor)> {
    let inputs: Vec<(String, Tensor)> = inputs.iter().map(|(n, t)| ((*n).to_owned(), t.clone())).collect();
    client.predict(model, "", &inputs, &[]).await.expect("an answer").outputs
}

fn floats(values: &[f32], dims: &[usize]) -> Tensor {
    Tensor::from_vec(dims, values.to_vec()).expect("as many")
}

#[tokio::test]
async fn digits_are_read_right() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["digits"], &[]);
    let client = client(&server).await;
    let (images, labels) = digits();
    let reply = client.predict("digits", "serving_default", &batch(&images), &[]).await.expect("an answer");
    assert_eq!(reply.version, Some(1));
    let scores = reply.outputs[0].1.values::<f32>().expect("f32").into_owned();
    let best = |row: &[f32]| (0..10).max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("ten");
    let read: Vec<usize> = scores.chunks(10).map(best).collect();
    assert_eq!(read, labels);
    // A run of many rows is split into batches and put together again; none at all is answered too.
    let many: Vec<Vec<f32>> = images.iter().cycle().take(150).cloned().collect();
    let reply = client.predict("digits", "", &batch(&many), &[]).await.expect("an answer");
    assert_eq!(reply.outputs[0].1.shape().dims(), [150, 10]);
    let reply = client.predict("digits", "", &batch(&[]), &[]).await.expect("an answer");
    assert_eq!(reply.outputs[0].1.shape().dims(), [0, 10]);
}

#[tokio::test]
async fn shapes_that_no_signature_promises_are_taken() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two", "two_inputs_two_outputs", "fixed_batch", "mixing"], &[]);
    let client = client(&server).await;
    let y = ask(&client, "half_plus_two", &[("x", floats(&[1.0, 2.0, 5.0], &[3]))]).await;
    assert_eq!(y[0].1.values::<f32>().expect("f32").as_ref(), [2.5, 3.0, 4.5]);
    let y = ask(&client, "half_plus_two", &[("x", floats(&[0.0; 12], &[2, 3, 2]))]).await;
    assert_eq!(y[0].1.shape().dims(), [2, 3, 2]);
    // The mean over the rows of one request, never of a neighbour's.
    let calls = (0..8).map(|i| {
        let client = client.clone();
        async move {
            let x = floats(&[i as f32; 8], &[2, 4]);
            ask(&client, "mixing", &[("x", x.clone())]).await.remove(0).1.values::<f32>().expect("f32").into_owned()
        }
    });
    let alone = ask(&client, "mixing", &[("x", floats(&[3.0; 8], &[2, 4]))]).await.remove(0).1;
    let together: Vec<Vec<f32>> = join_all(calls).await;
    assert_eq!(together[3], alone.values::<f32>().expect("f32").as_ref());
    let (code, metrics) = server.page("/metrics");
    assert_eq!(code, 200);
    let merged = metrics.lines().find(|l| l.starts_with("coracle_batch_rows_sum{model=\"mixing\""));
    let runs = metrics.lines().find(|l| l.starts_with("coracle_batch_rows_count{model=\"mixing\""));
    let number = |line: Option<&str>| -> f64 {
        line.and_then(|l| l.rsplit(' ').next()).and_then(|v| v.parse().ok()).expect("a number")
    };
    // Two rows a run: no run held two requests.
    assert_eq!(number(merged), 2.0 * number(runs));
}

/// Runs all futures at once.
pub(crate) async fn join_all<F>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let tasks: Vec<_> = futures.into_iter().map(tokio::spawn).collect();
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(task.await.expect("no panic"));
    }
    results
}
