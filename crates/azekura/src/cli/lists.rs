//! Which part of a list, in which order: the parameters that the API's lists have, by the same names.

use clap::Args;

/// A part of a list that is ordered by name.
#[derive(Clone, Debug, Default, Args)]
pub struct NamePageArgs {
    /// Items at most, 1 to 1000; nothing: all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: Option<u32>,
    /// Only items that come after this one: the last one of the page before; of a disk NODE/STORE/PATH.
    #[arg(long, value_name = "NAME")]
    pub after: Option<String>,
}

/// A part of a list that is ordered by id.
#[derive(Clone, Debug, Default, Args)]
pub struct IdPageArgs {
    /// Items at most, 1 to 1000; nothing: all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: Option<u32>,
    /// Only items with a larger id: that of the last one of the page before.
    #[arg(long, value_name = "ID")]
    pub after: Option<u64>,
}

/// Which volumes or snapshots, and in which order.
#[derive(Clone, Debug, Default, Args)]
pub struct ListArgs {
    /// By name, size or created, with `-` in front from the other end: --sort=-size.
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub sort: Option<api::ListSort>,
    /// Only what has this name.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Only what has this label.
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Option<String>,
    /// Which part.
    #[command(flatten)]
    pub page: IdPageArgs,
}
