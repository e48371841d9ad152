use super::*;

fn fact(attribute: Attribute, value: &str, source: Source) -> Fact {
    Fact { attribute, value: value.into(), source }
}

fn eni(value: &str, source: Source) -> Fact {
    fact(Attribute::InterfaceId, value, source)
}

#[test]
fn each_conflict_of_two_sources_is_decided_by_priority_and_reported() {
    for attribute in Attribute::ALL.iter().copied() {
        for one in Source::ALL {
            for other in Source::ALL.into_iter().filter(|other| *other != one) {
                let facts = [fact(attribute, "1", one), fact(attribute, "2", other)];
                let (identity, conflicts) = Identity::default().merge(facts.clone());
                let believed =
                    if attribute.rank(one) < attribute.rank(other) { one } else { other };
                assert_eq!(
                    identity.source(attribute),
                    Some(believed),
                    "{attribute:?}: {one:?}, {other:?}"
                );
                let [conflict] = &conflicts[..] else { panic!("{conflicts:?}") };
                assert_eq!(conflict.attribute, attribute);
                assert_ne!(conflict.source, believed);
                // The order of the facts does not matter.
                let (again, _) = Identity::default().merge(facts.into_iter().rev());
                assert_eq!(again, identity);
            }
        }
    }
}

#[test]
fn each_source_alone_decides() {
    for attribute in Attribute::ALL.iter().copied() {
        for source in Source::ALL {
            let (identity, conflicts) = Identity::default().merge([fact(attribute, "it", source)]);
            assert_eq!(identity.get(attribute), Some("it"));
            assert_eq!(identity.source(attribute), Some(source));
            assert_eq!(conflicts, []);
        }
    }
}

#[test]
fn the_order_of_priority_is_the_documented_one() {
    use Source::{Agent, Api, Docker, File, Imds, Introspection, Tmds};
    for (attribute, order) in [
        (Attribute::InterfaceId, [Agent, Imds, Api]),
        (Attribute::SubnetId, [Imds, Api, File]),
        (Attribute::VpcId, [Imds, Tmds, Api]),
        (Attribute::AzId, [Imds, Tmds, Api]),
        (Attribute::ServiceName, [Tmds, Agent, Api]),
        (Attribute::TaskArn, [Docker, Agent, Tmds]),
        (Attribute::ContainerInstanceArn, [Introspection, Agent, Api]),
        (Attribute::NetworkMode, [Agent, Tmds, Docker]),
    ] {
        assert!(order.is_sorted_by_key(|source| attribute.rank(*source)), "{attribute:?}");
    }
}

#[test]
fn empty_values_are_ignored_and_remove_nothing() {
    let (identity, conflicts) = Identity::default().merge([
        eni("", Source::Agent),
        eni("-", Source::Imds),
        eni("eni-1", Source::File),
    ]);
    assert_eq!(identity.get(Attribute::InterfaceId), Some("eni-1"));
    assert_eq!(conflicts, []);
    let (later, conflicts) = identity.merge([eni("", Source::File)]);
    assert_eq!((&later, conflicts.len()), (&identity, 0));
    assert_eq!(identity.merge([]).0, identity);
}

#[test]
fn a_constant_attribute_is_set_once() {
    let (first, _) = Identity::default().merge([eni("eni-1", Source::Imds)]);
    for (source, believed, conflicts) in [
        (Source::Imds, "eni-1", 1),
        (Source::Api, "eni-1", 1),
        // A source of higher priority replaces the value.
        (Source::Agent, "eni-2", 0),
    ] {
        let (identity, against) = first.merge([eni("eni-2", source)]);
        assert_eq!(identity.get(Attribute::InterfaceId), Some(believed), "{source:?}");
        assert_eq!(against.len(), conflicts, "{source:?}");
    }
}

#[test]
fn a_variable_attribute_follows_its_source_and_none_of_lower_priority() {
    let service = |value, source| fact(Attribute::ServiceName, value, source);
    let (first, _) = Identity::default().merge([service("a", Source::Agent)]);
    for (source, believed) in [(Source::Agent, "b"), (Source::Tmds, "b"), (Source::Api, "a")] {
        let (identity, _) = first.merge([service("b", source)]);
        assert_eq!(identity.get(Attribute::ServiceName), Some(believed), "{source:?}");
    }
}

#[test]
fn a_value_stays_one_word() {
    let (identity, _) = Identity::default().merge([eni("\"eni-1 2\n3", Source::File)]);
    assert_eq!(identity.get(Attribute::InterfaceId), Some("_eni-1_2_3"));
}

#[test]
fn a_long_value_is_cut_between_characters() {
    let long = "é".repeat(5000);
    let (identity, _) = Identity::default().merge([eni(&long, Source::File)]);
    assert_eq!(identity.get(Attribute::InterfaceId), Some(&*"é".repeat(LONGEST / 2)));
}
