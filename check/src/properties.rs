//! The properties, a file each. *Configuration* scope: daemons, and messages that they cast and deliver; *group* scope:
//! processes, views of groups, multicasts.
//!
//! Of the membership service, as a daemon hears it:
//!
//! | property | file |
//! | --- | --- |
//! | a start change proposes the daemon itself; start ids increase; each view follows a start change, carries its id, lies within what it proposed; view ids increase | `membership_interface` |
//! | one view id, one view | `view_id_unique` |
//! | a start id that somebody relies on was told to its owner | `start_id_real` |
//! | precision: in the end one view of all that live | `precision` |
//!
//! Of views and messages:
//!
//! | property | file | configuration | group |
//! | --- | --- | --- | --- |
//! | self inclusion | `self_inclusion` | yes | yes |
//! | local monotonicity | `local_monotonicity` | yes | yes |
//! | initial view | `initial_view` | yes | yes |
//! | view agreement: one id, one view | `view_id_unique`, `view_agreement` | yes | yes |
//! | no obsolete view, as far as the daemon knows | `no_obsolete_view` | yes | a group's views follow |
//! | each install leaves the view that one is in | `install_chain` | yes | see transitional set |
//! | no partial install | `no_partial_install` | yes | yes |
//! | delivery integrity | `delivery_integrity` | yes | yes |
//! | no duplication | `no_duplication` | yes | yes |
//! | self delivery | `self_delivery` | yes | yes |
//! | sending view delivery | `sending_view` | yes | strict groups |
//! | views change under blocked members | `blocked_views` | | strict groups |
//! | same view delivery | `same_view` | by sending view | among those who move together |
//! | conditional send | `conditional_send` | | yes |
//! | virtual synchrony | `virtual_synchrony` | yes | yes |
//! | transitional set: within both views; who came along | `transitional_set` | yes | yes |
//! | group view agreement: views and messages in one interleaving | `group_view_agreement` | | yes |
//! | FIFO, reliable FIFO | `fifo` | yes | yes |
//! | causal order | `causal` | by reliable causal order | yes |
//! | reliable causal order | `reliable_causal` | yes | by the same, and group view agreement |
//! | weak total order | `total_order` | yes | yes |
//! | reliable total order, up to the way out of a configuration | `reliable_total_order` | yes | yes |
//! | safe prefix | `safe_prefix` | yes | yes |
//! | safe uniform order: strong total order of safe messages | `safe_order` | | yes |
//! | safe liveness | `safe_liveness` | | yes |
//! | liveness: the last view is installed | `final_install` | yes | by group view agreement |
//! | liveness: what is sent in the last view is delivered | `final_delivery` | yes | yes |
//! | liveness: nobody is left blocked | `unblocked` | | yes |
//!
//! Of sessions, first the invariants of the framework:
//!
//! | property | file |
//! | --- | --- |
//! | replicas of a unit database that go together are equal after each event | `database_agreement` |
//! | every session has one primary, a member of the view; or none, if no member can serve it | `everyone_served` |
//! | at a gateway the fences of a session rise | `fences_rise` |
//! | a gateway accepts, and a client receives, each response once, but for a client that comes back without it | `response_once` |
//! | each request is applied once to a context | `request_once` |
//! | a backup is never behind the unit database | `backups_keep_up` |
//! | who responds holds the fence; in the end one server is primary of each session | `one_primary` |
//! | a view that shows failures only is acted upon without a message | `failures_agree` |
//! | few sessions are moved for balance in a view | `few_moves` |
//! | what a client receives, a primary has sent | `response_integrity` |
//! | an acknowledged request is applied, and reflected from then on | `acknowledged_requests` |
//! | liveness: requests are acknowledged | `answered_requests` |
//! | state that sessions share is like a single copy | `carried_once` |
//!
//! Not promised, but counted in the report: strong total order of messages that are not safe, and agreement on
//! successors (`unpromised`). Not in traces: that buffers are empty in the end, which tests of the daemon see from
//! within.

mod acknowledged_requests;
mod answered_requests;
mod backups_keep_up;
mod blocked_views;
mod carried_once;
mod causal;
mod conditional_send;
mod database_agreement;
mod delivery_integrity;
mod everyone_served;
mod failures_agree;
mod fences_rise;
mod few_moves;
mod fifo;
mod final_delivery;
mod final_install;
mod group_view_agreement;
mod initial_view;
mod install_chain;
mod local_monotonicity;
mod membership_interface;
mod no_duplication;
mod no_obsolete_view;
mod no_partial_install;
mod one_primary;
mod precision;
mod reliable_causal;
mod reliable_total_order;
mod request_once;
mod response_integrity;
mod response_once;
mod safe_liveness;
mod safe_order;
mod safe_prefix;
mod same_view;
mod self_delivery;
mod self_inclusion;
mod sending_view;
mod start_id_real;
mod total_order;
mod transitional_set;
mod unblocked;
mod view_agreement;
mod view_id_unique;
mod virtual_synchrony;

use crate::property::Property;

macro_rules! table {
    ($($module:ident::$checker:ident,)*) => {
        /// A fresh checker for every property.
        pub fn all() -> Vec<Box<dyn Property>> {
            vec![$(Box::<$module::$checker>::default()),*]
        }

        /// For each property by the name of its file, the traces that prove that it can tell good from bad.
        #[cfg(test)]
        fn cases() -> Vec<(&'static str, Vec<crate::script::Case>)> {
            vec![$((stringify!($module), $module::cases())),*]
        }
    };
}

table! {
    membership_interface::MembershipInterface,
    view_id_unique::ViewIdUnique,
    start_id_real::StartIdReal,
    precision::Precision,
    install_chain::InstallChain,
    no_obsolete_view::NoObsoleteView,
    no_partial_install::NoPartialInstall,
    initial_view::InitialView,
    self_inclusion::SelfInclusion,
    local_monotonicity::LocalMonotonicity,
    view_agreement::ViewAgreement,
    transitional_set::TransitionalSet,
    delivery_integrity::DeliveryIntegrity,
    no_duplication::NoDuplication,
    self_delivery::SelfDelivery,
    sending_view::SendingView,
    same_view::SameView,
    conditional_send::ConditionalSend,
    blocked_views::BlockedViews,
    virtual_synchrony::VirtualSynchrony,
    group_view_agreement::GroupViewAgreement,
    fifo::Fifo,
    causal::Causal,
    reliable_causal::ReliableCausal,
    total_order::TotalOrder,
    reliable_total_order::ReliableTotalOrder,
    safe_prefix::SafePrefix,
    safe_order::SafeOrder,
    safe_liveness::SafeLiveness,
    final_install::FinalInstall,
    final_delivery::FinalDelivery,
    unblocked::Unblocked,
    one_primary::OnePrimary,
    everyone_served::EveryoneServed,
    fences_rise::FencesRise,
    request_once::RequestOnce,
    response_once::ResponseOnce,
    response_integrity::ResponseIntegrity,
    acknowledged_requests::AcknowledgedRequests,
    answered_requests::AnsweredRequests,
    carried_once::CarriedOnce,
    database_agreement::DatabaseAgreement,
    failures_agree::FailuresAgree,
    backups_keep_up::BackupsKeepUp,
    few_moves::FewMoves,
}

#[cfg(test)]
mod tests;
