//! Reads and writes restrictions as JSON text, for stores and management: see [the format](super#format).

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::{AllowList, Mode, RestrictionError, Restrictions};

/// Writes JSON as in [the format](crate::restriction#format), without spaces; `{}` means no restriction.
impl fmt::Display for Restrictions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// Reads the text that [`Display`](fmt::Display) writes. If a store holds a text that is refused, the row is corrupt.
impl FromStr for Restrictions {
    type Err = RestrictionError;

    fn from_str(text: &str) -> Result<Self, RestrictionError> {
        const MAX_LEN: usize = 256 * 1024;
        // The parser's errors quote the input and do not say what to write instead.
        let malformed = || {
            let reason = r#"restrictions are written {"ip":{"mode":"enforce","allow":["192.0.2.0/24"]}}, with ip, referrer, endpoints and schemes"#;
            RestrictionError::new(text, reason)
        };
        if text.len() > MAX_LEN {
            return Err(malformed());
        }
        serde_json::from_str::<RawRestrictions>(text).map_err(|_| malformed())?.understood()
    }
}

impl Serialize for Restrictions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = RawRestrictions {
            ip: self.get_ip().map(RawRestriction::of),
            referrer: self.get_referrer().map(RawRestriction::of),
            endpoints: self.get_endpoints().map(RawRestriction::of),
            schemes: self.get_schemes().map(RawRestriction::of),
        };
        let mut map = serializer.serialize_map(None)?;
        let RawRestrictions { ip, referrer, endpoints, schemes } = &written;
        for (name, one) in
            [("ip", ip), ("referrer", referrer), ("endpoints", endpoints), ("schemes", schemes)]
        {
            if let Some(one) = one {
                map.serialize_entry(name, one)?;
            }
        }
        map.end()
    }
}

/// Reads as strictly as from text: unknown and repeated members are errors. The error quotes the entry it is about.
impl<'de> Deserialize<'de> for Restrictions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawRestrictions::deserialize(deserializer)?.understood().map_err(D::Error::custom)
    }
}

/// The restrictions as written, before their entries are parsed.
#[derive(Default)]
struct RawRestrictions {
    ip: Option<RawRestriction>,
    referrer: Option<RawRestriction>,
    endpoints: Option<RawRestriction>,
    schemes: Option<RawRestriction>,
}

#[derive(Default)]
struct RawRestriction {
    mode: Mode,
    allow: Vec<String>,
    origin: bool,
}

impl RawRestrictions {
    fn understood(self) -> Result<Restrictions, RestrictionError> {
        let mut restrictions = Restrictions::none();
        if let Some(ip) = self.ip {
            restrictions = restrictions.ip(ip.understood()?);
        }
        if let Some(referrer) = self.referrer {
            restrictions = restrictions.referrer(referrer.understood()?);
        }
        if let Some(endpoints) = self.endpoints {
            restrictions = restrictions.endpoints(endpoints.understood()?);
        }
        if let Some(schemes) = self.schemes {
            restrictions = restrictions.schemes(schemes.understood()?);
        }
        Ok(restrictions)
    }
}

impl<'de> Deserialize<'de> for RawRestrictions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RestrictionsVisitor;

        impl<'de> Visitor<'de> for RestrictionsVisitor {
            type Value = RawRestrictions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with ip, referrer, endpoints and schemes")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawRestrictions, A::Error> {
                let mut written = RawRestrictions::default();
                while let Some(name) = map.next_key::<String>()? {
                    let place = match &*name {
                        "ip" => &mut written.ip,
                        "referrer" => &mut written.referrer,
                        "endpoints" => &mut written.endpoints,
                        "schemes" => &mut written.schemes,
                        _ => return Err(A::Error::custom("there is no such restriction")),
                    };
                    let one: RawRestriction = map.next_value()?;
                    if one.origin && name != "referrer" {
                        return Err(A::Error::custom("origin is for referrer only"));
                    }
                    if place.replace(one).is_some() {
                        return Err(A::Error::custom("a restriction is there twice"));
                    }
                }
                Ok(written)
            }
        }

        deserializer.deserialize_map(RestrictionsVisitor)
    }
}

impl<'de> Deserialize<'de> for RawRestriction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RestrictionVisitor;

        impl<'de> Visitor<'de> for RestrictionVisitor {
            type Value = RawRestriction;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with mode and allow")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawRestriction, A::Error> {
                let (mut mode, mut allow, mut origin) = (None, None, None);
                while let Some(name) = map.next_key::<String>()? {
                    let twice = match &*name {
                        "mode" => mode.replace(mode_of(&map.next_value::<String>()?)?).is_some(),
                        "allow" => allow.replace(map.next_value::<Vec<String>>()?).is_some(),
                        "origin" => origin.replace(map.next_value::<bool>()?).is_some(),
                        _ => return Err(A::Error::custom("there are mode, allow and origin, and no others")),
                    };
                    if twice {
                        return Err(A::Error::custom("a member is there twice"));
                    }
                }
                let allow = allow.ok_or_else(|| A::Error::custom("allow is missing"))?;
                Ok(RawRestriction {
                    mode: mode.unwrap_or_default(),
                    allow,
                    origin: origin.unwrap_or_default(),
                })
            }
        }

        deserializer.deserialize_map(RestrictionVisitor)
    }
}

fn mode_of<E: serde::de::Error>(text: &str) -> Result<Mode, E> {
    match text {
        "enforce" => Ok(Mode::Enforce),
        "observe" => Ok(Mode::Observe),
        _ => Err(E::custom("mode is enforce or observe")),
    }
}

impl RawRestriction {
    fn of<R: fmt::Display>(list: &AllowList<R>) -> Self {
        let allow = list.rules.iter().map(ToString::to_string).collect();
        Self { mode: list.mode, allow, origin: list.origin }
    }

    fn understood<R>(self) -> Result<AllowList<R>, RestrictionError>
    where
        R: FromStr<Err = RestrictionError> + PartialEq,
    {
        Ok(AllowList { mode: self.mode, origin: self.origin, ..AllowList::allow(&self.allow)? })
    }
}

impl Serialize for RawRestriction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("mode", self.mode.as_str())?;
        map.serialize_entry("allow", &self.allow)?;
        if self.origin {
            map.serialize_entry("origin", &true)?;
        }
        map.end()
    }
}
