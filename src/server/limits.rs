//! What a connection may take, and how long.

use std::time::Duration;

use super::values::Values;
use crate::error::Result;

/// Bounds on the connections of each port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Open at a time.
    pub(super) connections_max: usize,
    /// Longest that a TLS handshake takes.
    pub(super) handshake: Duration,
    /// Longest from the start, TLS aside, to the head of the first request.
    pub(super) first_request: Duration,
    /// Longest without a request being answered; `None`: any time.
    pub(super) idle: Option<Duration>,
    /// Longest that a reply takes to be taken, and each further part of it; `None`: any time.
    pub(super) send: Option<Duration>,
    /// When a connection has lasted long enough; `None`: never.
    pub(super) age: Option<Duration>,
    /// How long requests then may still run; `None`: any time.
    pub(super) age_grace: Option<Duration>,
    /// Between pings of HTTP/2; `None`: there are none.
    pub(super) keepalive: Option<Duration>,
    /// How long an answer to a ping may take.
    pub(super) keepalive_timeout: Duration,
    /// Requests at a time on one connection of HTTP/2.
    pub(super) streams_max: u32,
}

/// Settings of ours, and what gRPC calls them.
const ARGUMENTS: [(&str, &str); 7] = [
    ("handshake_timeout_ms", "grpc.server_handshake_timeout_ms"),
    ("max_connection_idle_ms", "grpc.max_connection_idle_ms"),
    ("max_connection_age_ms", "grpc.max_connection_age_ms"),
    ("max_connection_age_grace_ms", "grpc.max_connection_age_grace_ms"),
    ("keepalive_time_ms", "grpc.keepalive_time_ms"),
    ("keepalive_timeout_ms", "grpc.keepalive_timeout_ms"),
    ("max_concurrent_streams", "grpc.max_concurrent_streams"),
];

/// What gRPC takes for "never".
const NEVER: u64 = i32::MAX as u64;

impl Values {
    /// The bounds on connections: settings, then arguments of gRPC's where the setting is not given.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the setting, or the argument, and what was expected.
    pub(super) fn limits(&self) -> Result<Limits> {
        let arguments = self.channel_arguments()?;
        let number = |name: &str| -> Result<u64> {
            let argument = ARGUMENTS.iter().find(|(own, _)| *own == name).map(|(_, argument)| *argument);
            let given = arguments.iter().rev().find(|(key, _)| Some(*key) == argument);
            match given.filter(|_| !self.is_given(name)) {
                None => self.number::<u32>(name).map(u64::from),
                Some((key, text)) => match text.parse() {
                    Ok(NEVER) if *key != "grpc.max_concurrent_streams" => Ok(0),
                    Ok(number) if number <= NEVER => Ok(number),
                    _ => Err(self.wrong("grpc_channel_arguments", &format!("a number for {key}"))),
                },
            }
        };
        let time = |name: &str| number(name).map(Duration::from_millis);
        let bound = |name: &str| time(name).map(|time| Some(time).filter(|time| !time.is_zero()));
        let at_least_one = |name: &str| match number(name)? {
            0 => Err(self.wrong(name, "at least 1")),
            number => Ok(number),
        };
        Ok(Limits {
            connections_max: at_least_one("max_connections")? as usize,
            handshake: Duration::from_millis(at_least_one("handshake_timeout_ms")?),
            first_request: Duration::from_millis(at_least_one("first_request_timeout_ms")?),
            idle: bound("max_connection_idle_ms")?,
            send: bound("send_timeout_ms")?,
            age: bound("max_connection_age_ms")?,
            age_grace: bound("max_connection_age_grace_ms")?,
            keepalive: bound("keepalive_time_ms")?,
            keepalive_timeout: Duration::from_millis(at_least_one("keepalive_timeout_ms")?),
            streams_max: u32::try_from(at_least_one("max_concurrent_streams")?).unwrap_or(u32::MAX),
        })
    }

    /// What is said of the arguments of gRPC's that do nothing here.
    pub(super) fn unused_channel_arguments(&self) -> Option<String> {
        let arguments = self.channel_arguments().unwrap_or_default();
        let unused = arguments.iter().map(|(key, _)| *key).filter(|key| ARGUMENTS.iter().all(|(_, own)| own != key));
        let unused: Vec<&str> = unused.collect();
        (!unused.is_empty()).then(|| {
            format!("--grpc_channel_arguments: {} has no effect: HTTP/2 has its defaults there", unused.join(", "))
        })
    }

    fn channel_arguments(&self) -> Result<Vec<(&str, &str)>> {
        let items = self.text("grpc_channel_arguments").split(',').map(str::trim).filter(|item| !item.is_empty());
        items
            .map(|item| item.split_once('=').map(|(key, value)| (key.trim(), value.trim())))
            .collect::<Option<_>>()
            .ok_or_else(|| self.wrong("grpc_channel_arguments", "a list of key=value"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::ServeArgs;
    use super::*;

    fn limits(given: &[(&'static str, &str)]) -> Result<(Limits, Option<String>)> {
        let mut args = ServeArgs::default();
        args.given.extend(given.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let values = Values::collect(&args, |_| None).expect("known settings");
        Ok((values.limits()?, values.unused_channel_arguments()))
    }

    #[test]
    fn arguments_of_grpcs_stand_for_settings() {
        let arguments = "grpc.so_reuseaddr=1,grpc.max_connection_age_ms=5000,grpc.keepalive_time_ms=2147483647";
        let (read, unused) = limits(&[("grpc_channel_arguments", arguments)]).expect("right");
        assert_eq!((read.age, read.keepalive), (Some(Duration::from_secs(5)), None));
        assert!(unused.expect("one does nothing").contains("grpc.so_reuseaddr has no effect"));
        let (read, unused) =
            limits(&[("grpc_channel_arguments", "grpc.max_connection_age_ms=5000"), ("max_connection_age_ms", "70")])
                .expect("right");
        assert_eq!((read.age, unused), (Some(Duration::from_millis(70)), None), "our own setting wins");
    }

    #[test]
    fn mistakes_name_what_was_expected() {
        let told = |name, value| limits(&[(name, value)]).expect_err(value).message().to_owned();
        assert!(told("grpc_channel_arguments", "grpc.so_reuseaddr").ends_with("expected a list of key=value"));
        let text = told("grpc_channel_arguments", "grpc.keepalive_time_ms=soon");
        assert!(text.ends_with("expected a number for grpc.keepalive_time_ms"), "{text}");
        assert!(told("max_connections", "0").ends_with("expected at least 1"));
        assert!(told("max_connection_age_ms", "99999999999").ends_with("expected a number in range"));
    }
}
