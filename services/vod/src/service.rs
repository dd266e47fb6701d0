//! The content service itself: the films held here, and the functions of [`Context`] over them.

use std::collections::BTreeMap;
use std::time::Duration;

use model::Time;
use session_core::{ContentId, ContentService, Next, Refusal, UnitInfo};

use crate::context::Context;
use crate::film::Film;
use crate::request::Request;

/// A lead that players buffer gladly, and much longer than a takeover takes.
pub const LEAD_DEFAULT: Duration = Duration::from_secs(2);

/// How films are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// How long before its time a fragment is sent. What a viewer then has in hand outlasts a gap of this length.
    pub lead: Duration,
}

impl Default for Params {
    fn default() -> Params {
        Params { lead: LEAD_DEFAULT }
    }
}

/// Video on demand.
#[derive(Clone, Debug)]
pub struct Vod {
    films: BTreeMap<ContentId, Film>,
    params: Params,
}

impl Vod {
    /// Serves these films.
    pub fn new(films: BTreeMap<ContentId, Film>, params: Params) -> Vod {
        Vod { films, params }
    }

    /// The films.
    pub fn films(&self) -> &BTreeMap<ContentId, Film> {
        &self.films
    }

    /// The film. The framework asks only for what [`ContentService::units`] names.
    fn film(&self, content: &ContentId) -> &Film {
        let Some(film) = self.films.get(content) else {
            panic!("asked to serve {content}, which is not held here")
        };
        film
    }
}

impl ContentService for Vod {
    type Context = Context;

    fn units(&self) -> Vec<UnitInfo> {
        let unit_info = |(content, film): (&ContentId, &Film)| UnitInfo {
            unit: content.unit.clone(),
            edition: content.edition,
            title: film.title().unwrap_or(content.unit.as_str()).to_owned(),
            media_type: "video/mp4".to_owned(),
            duration: film.duration(),
            size: film.size(),
        };
        self.films.iter().map(unit_info).collect()
    }

    fn open(&self, _: &ContentId) -> Context {
        Context::new()
    }

    fn apply(&self, content: &ContentId, context: &mut Context, request: &[u8]) -> Result<(), Refusal> {
        context.apply(self.film(content), Request::parse(request)?)
    }

    fn next(&self, content: &ContentId, context: &mut Context, now: Time) -> Next {
        context.next(self.film(content), self.params.lead, now)
    }

    fn is_essential(&self, content: &ContentId, response: &[u8]) -> bool {
        self.film(content).is_essential(response)
    }
}

#[cfg(test)]
mod tests {
    use session_core::RefusalKind;

    use super::*;
    use crate::forge::{VIDEO, clip, film, film_at, fragment, ftyp, mdat, moof, moov, udta, video};
    use model::UnitId;
    use session_core::Edition;

    fn content(id: &str) -> ContentId {
        ContentId::only(UnitId::new(id).unwrap())
    }

    fn vod(content: &ContentId, film: Film) -> Vod {
        Vod::new(BTreeMap::from([(content.clone(), film)]), Params::default())
    }

    #[test]
    fn a_session_without_requests_is_the_file_byte_for_byte() {
        for id in ["mandelbrot", "life", "gradients"] {
            let (content, file) = (content(id), clip(id));
            let vod = vod(&content, Film::parse(file.clone()).unwrap());
            let mut context = vod.open(&content);
            let mut now = Time::from_micros(5);
            let mut received = Vec::new();
            loop {
                match vod.next(&content, &mut context, now) {
                    Next::Respond { payload, last } => {
                        received.extend_from_slice(&payload);
                        assert_eq!(last, received.len() == file.len());
                    }
                    Next::At(time) => now = time,
                    Next::Idle => break,
                    failed @ Next::Fail { .. } => panic!("{failed:?}"),
                }
            }
            assert_eq!(received, file);
            // Sixty seconds of film, of which the last half second is sent two seconds ahead.
            assert_eq!(now, Time::from_micros(57_500_005));
        }
    }

    #[test]
    fn the_init_segment_is_sent_once_and_first() {
        let content = content("film");
        let film = film_at(&[0, 500, 1_000, 1_500]);
        let vod = vod(&content, film.clone());
        let mut context = vod.open(&content);
        vod.apply(&content, &mut context, br#"{"seek":{"position_ms":1200}}"#).unwrap();
        let mut next = || match vod.next(&content, &mut context, Time::from_micros(9)) {
            Next::Respond { payload, last } => (payload, last),
            other @ (Next::At(_) | Next::Idle | Next::Fail { .. }) => panic!("{other:?}"),
        };
        let fragments = film.fragments();
        assert_eq!(next(), (film.opening(&fragments[2]), false));
        assert_eq!(next(), (film.payload(&fragments[3]), true));
        assert_eq!(vod.next(&content, &mut context, Time::from_micros(9)), Next::Idle);
        vod.apply(&content, &mut context, br#"{"seek":{"position_ms":0}}"#).unwrap();
        let again = vod.next(&content, &mut context, Time::from_micros(9));
        assert_eq!(again, Next::Respond { payload: film.payload(&fragments[0]), last: false });
    }

    #[test]
    fn a_player_cannot_do_without_an_opening_or_pictures_that_others_build_on() {
        let content = content("film");
        let builds = |number, start| [moof(number, VIDEO, Some(start), &[500], false), mdat(16)].concat();
        let starts = |number, start| fragment(number, VIDEO, Some(start), &[500]);
        let film =
            film(&[ftyp(), moov(&[video()]), starts(1, 0), starts(2, 500), builds(3, 1000), starts(4, 1500)]);
        let vod = vod(&content, film.clone());
        let is_essential = |response: bytes::Bytes| vod.is_essential(&content, &response);
        let fragments = film.fragments();
        assert!(fragments.iter().all(|fragment| is_essential(film.opening(fragment))));
        let sent: Vec<_> = fragments.iter().map(|fragment| is_essential(film.payload(fragment))).collect();
        assert_eq!(sent, [false, true, false, false], "the third fragment builds on the second");
    }

    #[test]
    fn a_refused_request_leaves_the_context_alone() {
        let content = content("film");
        let vod = vod(&content, film_at(&[0, 500]));
        let cases: [(&[u8], RefusalKind, &str); 3] = [
            (b"{", RefusalKind::Malformed, "requests are"),
            (br#"{"seek":{"position_ms":1000}}"#, RefusalKind::OutOfRange, "the film lasts 1s"),
            (br#"{"rate":{"factor":9}}"#, RefusalKind::OutOfRange, "between 0.25 and 8"),
        ];
        for (request, kind, message) in cases {
            let mut context = vod.open(&content);
            let refusal = vod.apply(&content, &mut context, request).unwrap_err();
            assert_eq!(refusal.kind, kind);
            assert!(refusal.message.contains(message), "{}", refusal.message);
            assert_eq!(context, vod.open(&content));
        }
    }

    #[test]
    fn sessions_survive_hand_overs() {
        let films = || BTreeMap::from([(content("film"), film_at(&[0, 500, 1_000, 1_500, 2_000, 2_500]))]);
        let requests = [
            r#"{"seek":{"position_ms":1200}}"#,
            r#"{"seek":{"position_ms":0}}"#,
            r#"{"pause":{}}"#,
            r#"{"resume":{}}"#,
            r#"{"rate":{"factor":1.5}}"#,
        ];
        rehearsal::rehearse(|| Vod::new(films(), Params::default()), &requests);
    }

    #[test]
    fn clients_are_told_of_every_unit() {
        let titled = film(&[
            ftyp(),
            moov(&[video(), udta(b"A short story")]),
            fragment(1, VIDEO, Some(0), &[500, 250]),
        ]);
        let size = titled.size();
        let films = BTreeMap::from([(content("story"), titled), (content("untitled"), film_at(&[0, 500]))]);
        let units = Vod::new(films, Params::default()).units();
        let expected = UnitInfo {
            unit: content("story").unit,
            edition: Edition::ONLY,
            title: "A short story".into(),
            media_type: "video/mp4".into(),
            duration: Duration::from_millis(750),
            size,
        };
        assert_eq!(units[0], expected);
        assert_eq!((units[1].title.as_str(), units.len()), ("untitled", 2));
    }
}
