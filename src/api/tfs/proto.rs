//! The generated messages and services.

/// Messages and clients of TensorFlow Serving's API, generated from proto/.
#[allow(missing_docs, clippy::all, unused_qualifications)]
pub mod tensorflow {
    tonic::include_proto!("tensorflow");
    pub mod serving {
        tonic::include_proto!("tensorflow.serving");
    }
}

pub(in crate::api) use tensorflow::serving;
