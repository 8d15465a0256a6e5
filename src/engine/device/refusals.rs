//! What a driver refuses while a thread makes something on a device.
//!
//! wgpu's own error scopes keep a list for every thread that ever had one, which a server that loads each model on a thread of its
//! own would add to for as long as it runs. Without a scope wgpu tells the device's handler, at once and on the thread that asked.

use std::cell::RefCell;

use crate::error::{Error, Result};

thread_local! {
    /// What has been refused since this thread began to collect; none while it does not.
    static COLLECTED: RefCell<Option<Refused>> = const { RefCell::new(None) };
}

/// The first refusal of each kind.
#[derive(Debug, Default)]
struct Refused {
    /// Memory was short.
    memory: Option<wgpu::Error>,
    /// Anything else.
    other: Option<wgpu::Error>,
}

/// Puts back what an outer call has collected, also where `make` panics.
struct Outer(Option<Refused>);

impl Drop for Outer {
    fn drop(&mut self) {
        COLLECTED.set(self.0.take());
    }
}

/// Runs `make`, turning what a driver refuses in it into an error that names `what`.
pub(super) fn guarded<T>(what: &str, make: impl FnOnce() -> T) -> Result<T> {
    let (made, refused) = collect(make);
    if let Some(error) = refused.memory {
        return Err(Error::resource_exhausted(format!("{what}: out of device memory: {error}")));
    }
    match refused.other {
        Some(error) => Err(Error::internal(format!("{what}: {error}"))),
        None => Ok(made),
    }
}

/// Runs `make` and gives what was refused in it.
fn collect<T>(make: impl FnOnce() -> T) -> (T, Refused) {
    let _outer = Outer(COLLECTED.replace(Some(Refused::default())));
    let made = make();
    (made, COLLECTED.take().unwrap_or_default())
}

/// Keeps `error` for the call of [`collect`] that this thread is in; gives it back where it is in none.
pub(super) fn keep(error: wgpu::Error) -> Option<wgpu::Error> {
    COLLECTED.with_borrow_mut(|collected| {
        let Some(refused) = collected else { return Some(error) };
        let kind = match error {
            wgpu::Error::OutOfMemory { .. } => &mut refused.memory,
            wgpu::Error::Validation { .. } | wgpu::Error::Internal { .. } => &mut refused.other,
        };
        kind.get_or_insert(error);
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> wgpu::Error {
        wgpu::Error::OutOfMemory { source: "no memory".into() }
    }

    fn other(text: &str) -> wgpu::Error {
        wgpu::Error::Validation { source: text.into(), description: text.into() }
    }

    #[test]
    fn refusals_go_to_the_innermost_call_of_their_thread() {
        assert!(keep(other("nobody collects")).is_some());
        let ((), outer) = collect(|| {
            let ((), inner) = collect(|| {
                assert!(keep(memory()).is_none());
                let elsewhere = std::thread::spawn(|| keep(other("another thread")).is_some());
                assert!(elsewhere.join().expect("no panic"));
            });
            assert!(inner.memory.is_some() && inner.other.is_none());
            assert!(keep(other("first")).is_none() && keep(other("second")).is_none());
        });
        assert!(outer.memory.is_none());
        assert!(outer.other.is_some_and(|error| error.to_string().contains("first")));
        assert!(keep(other("nobody collects any more")).is_some());
    }

    #[test]
    fn a_panic_ends_collecting() {
        assert!(std::panic::catch_unwind(|| collect(|| panic!("on purpose"))).is_err());
        assert!(keep(memory()).is_some());
    }
}
