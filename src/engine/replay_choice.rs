//! Whether batches are replayed from recordings: only where lanes that do so have passed their test.

use super::device::Replay;
use crate::error::Result;

/// Has `open` open and test lanes that replay as `wanted`. Left to us, they record where `records`, and if such lanes fail they
/// are opened once more without. What was chosen comes with what `open` gave.
///
/// # Errors
/// Those of `open`.
pub(super) fn choose<T>(
    wanted: Replay,
    records: bool,
    mut open: impl FnMut(Replay) -> Result<T>,
) -> Result<(T, Replay)> {
    let first = match wanted {
        Replay::Auto if records => Replay::Recorded,
        Replay::Auto => Replay::Encoded,
        wanted => wanted,
    };
    let (opened, chosen) = match open(first) {
        Err(error) if first != wanted && first == Replay::Recorded => {
            let opened = open(Replay::Encoded)?;
            tracing::warn!(%error, "replaying batches from recordings does not work here: each is encoded");
            (opened, Replay::Encoded)
        }
        opened => (opened?, first),
    };
    let how = if chosen == Replay::Recorded { "recorded once" } else { "encoded for each" };
    tracing::info!(how, "commands of batches");
    Ok((opened, chosen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    /// Which ways are tried where only those that are encoded work, and what comes of it.
    fn tried(wanted: Replay, records: bool) -> (Vec<Replay>, Option<Replay>) {
        let mut tried = Vec::new();
        let open = |replay| {
            tried.push(replay);
            if replay == Replay::Encoded { Ok(()) } else { Err(Error::internal("element 0 is wrong")) }
        };
        let chosen = choose(wanted, records, open).ok().map(|(_, chosen)| chosen);
        (tried, chosen)
    }

    #[test]
    fn recordings_that_compute_wrong_are_done_without() {
        use Replay::{Auto, Encoded, Recorded};

        assert_eq!(tried(Auto, true), (vec![Recorded, Encoded], Some(Encoded)));
        assert_eq!(tried(Auto, false), (vec![Encoded], Some(Encoded)));
        assert_eq!(tried(Encoded, true), (vec![Encoded], Some(Encoded)));
        assert_eq!(tried(Recorded, true), (vec![Recorded], None), "who asks for it gets it or an error");
    }

    #[test]
    fn what_works_is_opened_once() {
        let mut opened = 0;
        let chosen = choose(Replay::Auto, true, |_| {
            opened += 1;
            Ok(())
        });
        assert_eq!((chosen.expect("it works").1, opened), (Replay::Recorded, 1));
    }

    #[test]
    fn what_works_in_no_way_is_an_error() {
        let mut opened = 0;
        let refused = choose::<()>(Replay::Auto, true, |_| {
            opened += 1;
            Err(Error::unavailable("no device"))
        });
        assert_eq!((refused.expect_err("nothing works").message(), opened), ("no device", 2));
    }
}
