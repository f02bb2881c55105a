//! All parsers of single texts: restrictions, limits, times, ids, names of digests. A parsed value must be written in
//! a form that parses to the same value.
//!
//! ```text
//! cargo +nightly fuzz run texts
//! ```

#![no_main]

use std::fmt::Debug;
use std::str::FromStr;

use http::Method;
use libfuzzer_sys::fuzz_target;
use tower_api_key::limit::{Limit, Limits};
use tower_api_key::restriction::{
    EndpointRule, Network, ReferrerRule, RequestContext, Restrictions, SchemeRule,
};
use tower_api_key::{DigestMethod, KeyEvent, KeyFormat, KeyId, ProjectId, Timestamp, UsageChannel, UserId};

fn read_twice<T: FromStr + ToString + PartialEq + Debug>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        let written = read.to_string();
        assert!(written.parse::<T>().is_ok_and(|again| again == read), "{written:?}");
    }
}

fuzz_target!(|input: &str| {
    read_twice::<Restrictions>(input);
    read_twice::<Network>(input);
    read_twice::<ReferrerRule>(input);
    read_twice::<SchemeRule>(input);
    read_twice::<Limit>(input);
    read_twice::<Limits>(input);
    read_twice::<UserId>(input);
    read_twice::<ProjectId>(input);
    read_twice::<KeyId>(input);
    read_twice::<KeyEvent>(input);
    read_twice::<UsageChannel>(input);
    read_twice::<EndpointRule>(input);
    let _ = input.parse::<DigestMethod>();
    let _ = KeyFormat::new(input).map(|format| format.environment_of(input));
    if let Ok(time) = input.parse::<Timestamp>() {
        assert_eq!(time.to_string().len(), "2025-01-01T00:00:00Z".len());
    }
    // The first line is the restrictions, the second the request that is checked.
    if let Some((restrictions, request)) = input.split_once('\n')
        && let Ok(restrictions) = restrictions.parse::<Restrictions>()
    {
        let facts = RequestContext::new().referrer(request).origin(request).scheme(request);
        let _ = restrictions.judge(&facts.endpoint(&Method::GET, request));
    }
});
