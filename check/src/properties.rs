//! The properties, a file each.

mod acknowledged_requests;
mod causal;
mod database_agreement;
mod delivery_integrity;
mod fifo;
mod install_chain;
mod liveness;
mod local_monotonicity;
mod membership_interface;
mod no_duplication;
mod one_primary;
mod request_once;
mod response_integrity;
mod response_once;
mod same_view;
mod self_delivery;
mod self_inclusion;
mod sending_view;
mod total_order;
mod transitional_set;
mod view_agreement;
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
    install_chain::InstallChain,
    self_inclusion::SelfInclusion,
    local_monotonicity::LocalMonotonicity,
    sending_view::SendingView,
    no_duplication::NoDuplication,
    delivery_integrity::DeliveryIntegrity,
    self_delivery::SelfDelivery,
    virtual_synchrony::VirtualSynchrony,
    transitional_set::TransitionalSet,
    fifo::Fifo,
    causal::Causal,
    total_order::TotalOrder,
    same_view::SameView,
    view_agreement::ViewAgreement,
    one_primary::OnePrimary,
    request_once::RequestOnce,
    response_once::ResponseOnce,
    response_integrity::ResponseIntegrity,
    acknowledged_requests::AcknowledgedRequests,
    database_agreement::DatabaseAgreement,
    liveness::Liveness,
}

#[cfg(test)]
mod tests;
