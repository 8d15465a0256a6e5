//! Life as a Windows service: the service control manager starts the process as any other, and says that it shall stop by a call.

use std::ffi::OsString;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use windows_service::service::{
    ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{self, ServiceControlHandlerResult, ServiceStatusHandle};
use windows_service::{define_windows_service, service_dispatcher};

/// The manager does not read it: a process of its own holds one service, whatever that is called.
const NAME: &str = "coracle";
/// How long a stop may take until the manager takes it for hung: more than any drain, which ends by itself.
const STOP_MAX: Duration = Duration::from_secs(600);

type Body = Box<dyn FnOnce() -> u8 + Send>;

/// What the service does; taken when it starts.
static BODY: Mutex<Option<Body>> = Mutex::new(None);
/// Whether it shall stop; kept until somebody waits for it.
static TOLD: Notify = Notify::const_new();
/// Whom the manager hears from.
static STATUS: OnceLock<ServiceStatusHandle> = OnceLock::new();

/// Does `body` as a service, which then has its exit code. `false` where no service control manager started this process:
/// nothing was done.
pub fn as_service(body: impl FnOnce() -> u8 + Send + 'static) -> bool {
    *BODY.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(body));
    // Fails at once in a process that the manager did not start, and returns when the service has stopped in one that it did.
    service_dispatcher::start(NAME, service_entry).is_ok()
}

/// Returns once the manager has said that the service shall stop, and again when it says it again.
pub(super) async fn told() {
    TOLD.notified().await;
}

define_windows_service!(service_entry, live);

fn live(_: Vec<OsString>) {
    let Some(body) = BODY.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    match service_control_handler::register(NAME, hear) {
        Ok(status) => drop(STATUS.set(status)),
        Err(error) => return tracing::error!(%error, "the service control manager cannot reach the service"),
    }
    // It runs while models are loaded: /readyz and gRPC's health say when it serves.
    report(ServiceState::Running, 0);
    report(ServiceState::Stopped, body());
}

fn hear(control: ServiceControl) -> ServiceControlHandlerResult {
    match control {
        ServiceControl::Stop | ServiceControl::Shutdown => {
            report(ServiceState::StopPending, 0);
            TOLD.notify_one();
            ServiceControlHandlerResult::NoError
        }
        // The manager answers with what was reported last.
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    }
}

fn report(state: ServiceState, code: u8) {
    let Some(handle) = STATUS.get() else { return };
    let is_running = state == ServiceState::Running;
    let told = handle.set_service_status(ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state: state,
        controls_accepted: if is_running {
            ServiceControlAccept::STOP | ServiceControlAccept::SHUTDOWN
        } else {
            ServiceControlAccept::empty()
        },
        exit_code: match code {
            0 => ServiceExitCode::Win32(0),
            code => ServiceExitCode::ServiceSpecific(code.into()),
        },
        checkpoint: 0,
        wait_hint: if state == ServiceState::StopPending { STOP_MAX } else { Duration::ZERO },
        process_id: None,
    });
    if let Err(error) = told {
        tracing::warn!(%error, ?state, "the service control manager was not told");
    }
}
