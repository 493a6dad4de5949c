//! x
use std::process::ExitCode;
/// x
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How many users.
    #[arg(long, default_value_t = 12)]
    pub users: usize,
    /// How many seconds.
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
}
/// x
pub async fn run(_: Options) -> ExitCode {
    ExitCode::FAILURE
}
