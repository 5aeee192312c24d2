//! `request.cf` and the ray id (pages.md 8.8, 8.9).

use std::cell::Cell;
use std::fmt::Write as _;

use http::{HeaderValue, Version};
use serde::{Deserialize, Serialize};

/// Where requests appear to come from. The default is the stand-in of miniflare's
/// `cf.ts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Place {
    /// The data centre: three letters, also the end of every ray id.
    pub colo: String,
    /// Two letters; unknown if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// `"1"` for a country of the European Union, else absent.
    #[serde(rename = "isEUCountry", skip_serializing_if = "Option::is_none")]
    pub is_eu_country: Option<String>,
    /// Two letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continent: Option<String>,
    /// The city's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// The region's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The region's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region_code: Option<String>,
    /// The postal code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<String>,
    /// The code of a market area.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metro_code: Option<String>,
    /// The time zone's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Degrees, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latitude: Option<String>,
    /// Degrees, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longitude: Option<String>,
    /// The number of the client's network.
    pub asn: u32,
    /// Who runs the client's network.
    pub as_organization: String,
}

impl Default for Place {
    fn default() -> Self {
        let text = |text: &str| Some(text.to_owned());
        Self {
            colo: "DFW".to_owned(),
            country: text("US"),
            is_eu_country: None,
            continent: text("NA"),
            city: text("Austin"),
            region: text("Texas"),
            region_code: text("TX"),
            postal_code: text("78701"),
            metro_code: text("635"),
            timezone: text("America/Chicago"),
            latitude: text("30.27130"),
            longitude: text("-97.74260"),
            asn: 395_747,
            as_organization: "Engawa".to_owned(),
        }
    }
}

/// What of `request.cf` is the same for all requests of a site, as JSON without its final
/// brace, in ASCII.
pub(crate) struct RequestCf {
    beginning: String,
    /// The whole header over HTTP/1.1 for what nearly all clients accept.
    usual: Vec<(Option<HeaderValue>, HeaderValue)>,
    colo: String,
    country: HeaderValue,
}

/// `Accept-Encoding` of browsers, of command-line tools, and of those that have none.
const USUAL_ENCODINGS: [&str; 4] = [
    "gzip, deflate, br, zstd",
    "gzip, deflate, br",
    "gzip, deflate",
    "gzip",
];

impl RequestCf {
    pub(crate) fn new(place: &Place) -> Self {
        let mut fields = serde_json::json!({
            "edgeRequestKeepAliveStatus": 1,
            "clientTcpRtt": 0,
            "requestPriority": "",
            "tlsVersion": "",
            "tlsCipher": "",
            "tlsClientAuth": {
                "certPresented": "0",
                "certVerified": "NONE",
                "certRevoked": "0",
                "certIssuerDN": "",
                "certSubjectDN": "",
                "certIssuerDNRFC2253": "",
                "certSubjectDNRFC2253": "",
                "certIssuerDNLegacy": "",
                "certSubjectDNLegacy": "",
                "certSerial": "",
                "certIssuerSerial": "",
                "certSKI": "",
                "certIssuerSKI": "",
                "certFingerprintSHA1": "",
                "certFingerprintSHA256": "",
                "certNotBefore": "",
                "certNotAfter": "",
            },
        });
        if let (Some(fields), Ok(serde_json::Value::Object(place))) =
            (fields.as_object_mut(), serde_json::to_value(place))
        {
            fields.extend(place);
        }
        let mut beginning = String::new();
        push_ascii(&mut beginning, &fields.to_string());
        beginning.pop();
        let colo: String = place
            .colo
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(8)
            .collect();
        let mut cf = Self {
            beginning,
            usual: Vec::new(),
            colo,
            country: place
                .country
                .as_deref()
                .and_then(|country| HeaderValue::from_str(country).ok())
                .unwrap_or(HeaderValue::from_static("XX")),
        };
        let usual = USUAL_ENCODINGS.map(|encodings| Some(HeaderValue::from_static(encodings)));
        for encodings in usual.into_iter().chain([None]) {
            let header = cf.make_header(Version::HTTP_11, encodings.as_ref());
            cf.usual.push((encodings, header));
        }
        cf
    }

    /// The whole JSON for one request.
    pub(crate) fn header(
        &self,
        version: Version,
        accept_encoding: Option<&HeaderValue>,
    ) -> HeaderValue {
        if version == Version::HTTP_11 {
            for (encodings, header) in &self.usual {
                if encodings.as_ref() == accept_encoding {
                    return header.clone();
                }
            }
        }
        self.make_header(version, accept_encoding)
    }

    fn make_header(&self, version: Version, accept_encoding: Option<&HeaderValue>) -> HeaderValue {
        let mut json = String::with_capacity(self.beginning.len() + 96);
        json.push_str(&self.beginning);
        let protocol = match version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_3 => "HTTP/3",
            _ => "HTTP/1.1",
        };
        let _ = write!(json, ",\"httpProtocol\":\"{protocol}\"");
        if let Some(encodings) = accept_encoding {
            json.push_str(",\"clientAcceptEncoding\":");
            let encodings = String::from_utf8_lossy(encodings.as_bytes());
            let text = serde_json::Value::String(encodings.into_owned()).to_string();
            push_ascii(&mut json, &text);
        }
        json.push('}');
        HeaderValue::try_from(json).unwrap_or(HeaderValue::from_static("{}"))
    }

    pub(crate) fn country(&self) -> HeaderValue {
        self.country.clone()
    }

    /// A new ray id: 16 hex digits, a dash, the data centre.
    pub(crate) fn ray(&self) -> HeaderValue {
        let mut text = String::with_capacity(17 + self.colo.len());
        let _ = write!(text, "{:016x}-{}", next_ray(), self.colo);
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("0"))
    }
}

/// JSON text with every character above ASCII as `\u` escapes, fit for a header.
fn push_ascii(out: &mut String, json: &str) {
    for c in json.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
}

/// A number that no other request gets: `SplitMix64` over a counter of the thread's own,
/// begun at random. It is no secret, so it need not be unguessable.
fn next_ray() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(
            // Without randomness at start: the thread's own address still tells threads apart.
            getrandom::u64().unwrap_or_else(|_| std::ptr::from_ref(&()).addr() as u64),
        );
    }
    STATE.with(|state| {
        let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        let mut mixed = next;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_ascii_json_with_strings_for_places_and_a_number_for_asn() {
        let place = Place {
            city: Some("Zürich 🏔".to_owned()),
            asn: 64_512,
            ..Place::default()
        };
        let encodings = HeaderValue::from_static("deflate, \"x\"");
        let header = RequestCf::new(&place).header(Version::HTTP_11, Some(&encodings));
        assert!(header.as_bytes().iter().all(u8::is_ascii_graphic) || header.to_str().is_ok());
        let json: serde_json::Value = serde_json::from_slice(header.as_bytes()).unwrap();
        assert_eq!(json["city"], "Zürich 🏔");
        assert_eq!(json["asn"], 64_512);
        assert_eq!(json["latitude"], "30.27130");
        assert_eq!(json["httpProtocol"], "HTTP/1.1");
        assert_eq!(json["clientAcceptEncoding"], "deflate, \"x\"");
        assert_eq!(json["tlsClientAuth"]["certPresented"], "0");
    }

    #[test]
    fn a_ray_is_sixteen_hex_digits_and_the_colo() {
        let cf = RequestCf::new(&Place::default());
        let ray = cf.ray();
        let (digits, colo) = ray.to_str().unwrap().split_once('-').unwrap();
        assert_eq!((digits.len(), colo), (16, "DFW"));
        assert!(digits.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_ne!(ray, cf.ray());
    }
}
