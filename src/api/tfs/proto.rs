//! The generated messages and services.

#[allow(missing_docs, unreachable_pub, clippy::all, unused_qualifications)]
pub(in crate::api) mod tensorflow {
    tonic::include_proto!("tensorflow");
    pub(in crate::api) mod serving {
        tonic::include_proto!("tensorflow.serving");
    }
}

pub(in crate::api) use tensorflow::serving;
