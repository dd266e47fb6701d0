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
mod tests {
    use super::*;

    #[test]
    fn every_case_is_rejected_by_exactly_the_properties_that_it_breaks() {
        let mut wrong = String::new();
        for (property, cases) in cases() {
            for case in cases {
                let report = case.script.judged();
                let rejected_by: Vec<&str> = report.violations.iter().map(|v| v.property).collect();
                if rejected_by != case.rejected_by {
                    wrong += &format!("{property}: {}: not {:?}\n{report}\n", case.what, case.rejected_by);
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    }

    #[test]
    fn every_property_rejects_a_trace_of_its_own() {
        let tables = cases();
        for property in all() {
            let (_, cases) = tables.iter().find(|(module, _)| *module == property.name()).unwrap();
            let of_its_own = |by: &[&str]| by == [property.name()];
            assert!(cases.iter().any(|case| of_its_own(case.rejected_by)), "{} never fired", property.name());
        }
    }

    #[test]
    fn every_violation_quotes_its_evidence() {
        for (property, cases) in cases() {
            for case in cases {
                for violation in case.script.judged().violations {
                    let lines = case.script.events().len() as u32;
                    let evidence = &violation.breach.evidence;
                    assert!(!evidence.is_empty(), "{property}: {}", case.what);
                    assert!(
                        evidence.iter().all(|at| (1..=lines).contains(&at.line)),
                        "{property}: {}",
                        case.what
                    );
                    assert!(violation.claim.contains(':'), "{property}");
                }
            }
        }
    }
}
