//! The settings as flags of `coracle serve`.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Command, Error, parser::ValueSource};

use super::foreign::FOREIGN;
use super::settings::{Kind, SETTINGS};

/// What stands on the command line of `serve`.
#[derive(Clone, Debug, Default)]
pub struct ServeArgs {
    /// Settings given, by name.
    pub(super) given: BTreeMap<&'static str, String>,
    /// A TOML file with more of them.
    pub(super) file: Option<String>,
    /// Show the effective settings and end.
    pub(super) print: bool,
    /// Say what is wrong with the settings and end.
    pub(super) check: bool,
    /// Flags of TensorFlow Serving's that mean nothing here, by name.
    pub(super) foreign: BTreeMap<&'static str, String>,
    /// Whether to behave as `tensorflow_model_server`.
    pub(super) is_tensorflow: bool,
}

fn valued(arg: Arg, kind: Kind) -> Arg {
    match kind {
        // `--flag`, `--flag=true`, `--flag=false`.
        Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("BOOL"),
        Kind::Number | Kind::Fraction => arg.num_args(1).value_name("N"),
        Kind::Signed => arg.num_args(1).allow_negative_numbers(true).value_name("N"),
        Kind::Text => arg.num_args(1).value_name("TEXT"),
    }
}

/// What follows the flags of `coracle serve`, and of a binary called as TensorFlow Serving's.
const AFTER: &str =
    "Port 0 is one that is free. Every flag may also be a variable (CORACLE_PORT=9000) or a key of the TOML file that \
--config names (port = 9000); flags win over variables, variables over the file.

Examples:
  coracle serve --model_name=digits --model_base_path=$PWD/models/digits
  coracle serve --model_config_file=models.config --lanes=2 --port=9000
  coracle serve --config coracle.toml --print-config";
const AFTER_TENSORFLOW: &str =
    "Port 0 is no port. Every flag may also be a variable (CORACLE_PORT=9000) or a key of the TOML file that --config \
names (port = 9000); flags win over variables, variables over the file. Flags of TensorFlow Serving's that are not \
listed are taken too, and the log says what becomes of them.

Examples:
  tensorflow_model_server --port=8500 --rest_api_port=8501 --model_name=digits --model_base_path=/models/digits
  tensorflow_model_server --model_config_file=models.config --enable_batching";

impl ServeArgs {
    /// The arguments of a binary that is called `tensorflow_model_server`; ends the process on `--help`, `--version` and
    /// mistakes.
    pub fn of_tensorflow_model_server() -> Self {
        let command = Command::new("tensorflow_model_server").version(env!("CARGO_PKG_VERSION"));
        let matches = arguments(command, true).get_matches();
        let mut args = Self { is_tensorflow: true, ..Self::default() };
        // Reading what has been parsed cannot fail.
        let _ = clap::FromArgMatches::update_from_arg_matches(&mut args, &matches);
        args
    }
}

/// The command with the flags; `is_tensorflow` says under which name, and so with which defaults.
fn arguments(command: Command, is_tensorflow: bool) -> Command {
    let command = command
        .about("Serves models over gRPC and REST, as TensorFlow Serving does")
        .after_help(if is_tensorflow { AFTER_TENSORFLOW } else { AFTER })
        .arg(Arg::new("config").long("config").value_name("FILE").help("TOML file of settings"))
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .alias("print_config")
                .action(ArgAction::SetTrue)
                .help("Print the effective settings as a TOML file, with where each comes from, and end"),
        );
    let command = command.arg(
        Arg::new("check")
            .long("check")
            .action(ArgAction::SetTrue)
            .help("Read every configuration file, print all that is wrong with them, and end"),
    );
    let command = FOREIGN
        .iter()
        .fold(command, |command, flag| command.arg(valued(Arg::new(flag.name).long(flag.name), flag.kind).hide(true)));
    SETTINGS.iter().fold(command, |command, setting| {
        let default = setting.tensorflow.filter(|_| is_tensorflow).unwrap_or(setting.default);
        let default = if default.is_empty() { "empty" } else { default };
        let arg = Arg::new(setting.name)
            .long(setting.name)
            .alias(setting.name.replace('_', "-"))
            .help(format!("{} [{default}]", setting.help));
        command.arg(valued(arg, setting.kind))
    })
}

impl clap::Args for ServeArgs {
    fn augment_args(command: Command) -> Command {
        arguments(command, false)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.file = matches.get_one::<String>("config").cloned();
        self.print = matches.get_flag("print-config");
        self.check = matches.get_flag("check");
        let given = |name| {
            let is_given = matches.value_source(name) == Some(ValueSource::CommandLine);
            matches.get_one::<String>(name).filter(|_| is_given).cloned()
        };
        self.foreign.extend(FOREIGN.iter().filter_map(|flag| Some((flag.name, given(flag.name)?))));
        self.given.extend(SETTINGS.iter().filter_map(|setting| Some((setting.name, given(setting.name)?))));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_shows_the_defaults_that_hold_under_either_name() {
        let help = |is_tensorflow| {
            let text = arguments(Command::new("x"), is_tensorflow).render_help().to_string();
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let (own, theirs) = (help(false), help(true));
        assert!(own.contains("/readyz and /metrics [8501]") && own.contains("Port 0 is one that is free"), "{own}");
        assert!(theirs.contains("/readyz and /metrics [0]") && theirs.contains("Port 0 is no port"), "{theirs}");
        assert!(theirs.contains("proven independent [false]"), "{theirs}");
    }
}
