//! What a model is due beside others, and what is promised to its callers.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Result};

/// How urgent something is. Waiting makes up for it: see [`Policy::priority_wait_max`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// After the others.
    Low,
    /// As everything that says nothing.
    #[default]
    Normal,
    /// Before the others.
    High,
}

impl Priority {
    /// As configurations, requests and reports spell it.
    pub fn name(self) -> &'static str {
        match self {
            Priority::Low => "low",
            Priority::Normal => "normal",
            Priority::High => "high",
        }
    }

    /// Of a request to a model: each step that the model stands above or below normal moves its requests by one.
    #[must_use]
    pub fn of_model(self, model: Priority) -> Self {
        match self as i8 + model as i8 - Priority::Normal as i8 {
            ..=0 => Priority::Low,
            1 => Priority::Normal,
            2.. => Priority::High,
        }
    }

    /// How many steps below another, at least as high, this one is.
    pub(super) fn steps_below(self, other: Priority) -> u32 {
        (other as u32).saturating_sub(self as u32)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Priority {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = [Priority::Low, Priority::Normal, Priority::High];
        known.into_iter().find(|priority| priority.name() == text).ok_or_else(|| {
            let shown: String = text.chars().take(32).collect();
            Error::invalid_argument(format!("the priority is {shown:?}, expected low, normal or high"))
        })
    }
}

/// The settings of one model beside others.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its share of device time while several models have work, beside the others' weights.
    pub weight: f64,
    /// How urgent its requests are beside those of other models.
    pub priority: Priority,
    /// Requests that would be answered later than so long after they came are refused.
    pub latency_target: Option<Duration>,
    /// Longest that a batch may keep a lane, as far as measurements tell; one of the smallest size always may.
    pub batch_time_max: Duration,
    /// Longest that something waits only because something more urgent came later, a step of priority.
    pub priority_wait_max: Duration,
    /// Bytes that the inputs of a batch may take in which requests are padded to each other's extents.
    pub padded_bytes_max: u64,
}

impl Policy {
    /// Smallest and largest weight: shares stay apart by no more than what rounding and waiting can bear.
    pub const WEIGHTS: std::ops::RangeInclusive<f64> = 0.01..=100.0;
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            weight: 1.0,
            priority: Priority::Normal,
            latency_target: None,
            batch_time_max: Duration::from_millis(250),
            priority_wait_max: Duration::from_millis(250),
            padded_bytes_max: 64 << 20,
        }
    }
}

/// What is said of one model; what is not said stays as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduling {
    /// Its [`Policy::weight`].
    pub weight: Option<f64>,
    /// Its [`Policy::priority`].
    pub priority: Option<Priority>,
    /// Its [`Policy::latency_target`] in milliseconds; 0: none.
    #[serde(alias = "latencyTargetMs")]
    pub latency_target_ms: Option<u32>,
}

impl Scheduling {
    /// The same once it is known to be possible.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the value and what was expected.
    pub fn checked(self) -> Result<Self> {
        if let Some(weight) = self.weight.filter(|weight| !Policy::WEIGHTS.contains(weight)) {
            let (least, most) = Policy::WEIGHTS.into_inner();
            return Err(Error::invalid_argument(format!("weight {weight}, expected a number from {least} to {most}")));
        }
        Ok(self)
    }

    /// `policy` with what is said.
    pub fn over(self, policy: Policy) -> Policy {
        let target = |millis: u32| Some(Duration::from_millis(millis.into())).filter(|target| !target.is_zero());
        Policy {
            weight: self.weight.unwrap_or(policy.weight),
            priority: self.priority.unwrap_or(policy.priority),
            latency_target: self.latency_target_ms.map_or(policy.latency_target, target),
            ..policy
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_priority_moves_its_requests() {
        use Priority::{High, Low, Normal};
        for (request, model, both) in
            [(Normal, Normal, Normal), (High, Low, Normal), (High, High, High), (Normal, Low, Low), (Low, Low, Low)]
        {
            assert_eq!(request.of_model(model), both, "{request} {model}");
        }
        assert_eq!("high".parse::<Priority>().expect("known"), High);
        assert!("urgent".parse::<Priority>().expect_err("unknown").message().contains("\"urgent\""));
    }

    #[test]
    fn what_is_not_said_stays_as_it_was() {
        let policy = Policy { latency_target: Some(Duration::from_millis(500)), ..Policy::default() };
        assert_eq!(Scheduling::default().over(policy.clone()), policy);
        let (weight, latency_target_ms) = (Some(4.0), Some(50));
        let own = Scheduling { weight, priority: Some(Priority::High), latency_target_ms }.over(policy.clone());
        assert_eq!((own.weight, own.priority), (4.0, Priority::High));
        assert_eq!(own.latency_target, Some(Duration::from_millis(50)));
        let none = Scheduling { latency_target_ms: Some(0), ..Scheduling::default() };
        assert_eq!(none.over(policy).latency_target, None);
        for weight in [0.0, -1.0, 101.0, f64::NAN] {
            let refused = Scheduling { weight: Some(weight), ..Scheduling::default() }.checked();
            assert!(refused.expect_err("no weight").message().contains("from 0.01 to 100"));
        }
    }
}
