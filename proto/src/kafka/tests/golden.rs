//! Bytes that were written down by hand, from the protocol's description.

use bytes::Bytes;

use crate::kafka::messages::*;
use crate::kafka::{Decoded, RequestHead, decode, decode_response, encode, encode_request};

#[test]
fn a_plain_request_and_its_answer() {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name: Some("t".into()), ..Default::default() }]),
        ..Default::default()
    };
    let frame = encode_request(4, 7, Some("me"), &request).join().unwrap();
    let expected = [
        &[0, 0, 0, 20][..],
        &[0, 3, 0, 4, 0, 0, 0, 7, 0, 2, b'm', b'e'],
        &[0, 0, 0, 1, 0, 1, b't', 1],
    ]
    .concat();
    assert_eq!(frame, expected);

    let mut frame = Bytes::from(frame).slice(4..);
    let head = RequestHead::take(&mut frame).unwrap();
    assert_eq!(head, RequestHead { key: 3, version: 4, correlation_id: 7 });
    let Decoded { client_id, request: read, .. } = decode::<MetadataRequest>(4, frame).unwrap();
    assert_eq!(client_id.as_deref(), Some("me"));
    assert_eq!(read, request);
}

#[test]
fn a_flexible_answer_has_tags_in_its_header_and_one_to_api_versions_has_not() {
    let answer = HeartbeatResponse { error_code: 27, ..Default::default() };
    let frame = encode::<HeartbeatRequest>(4, 1, &answer).join().unwrap();
    assert_eq!(frame, [0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 27, 0]);

    let answer = ApiVersionsResponse {
        api_keys: vec![ApiVersion { api_key: 18, min_version: 0, max_version: 4 }],
        ..Default::default()
    };
    let frame = encode::<ApiVersionsRequest>(3, 1, &answer).join().unwrap();
    let expected =
        [&[0, 0, 0, 19][..], &[0, 0, 0, 1, 0, 0, 2, 0, 18, 0, 0, 0, 4, 0], &[0, 0, 0, 0, 0]]
            .concat();
    assert_eq!(frame, expected);
    let (id, read) =
        decode_response::<ApiVersionsRequest>(3, Bytes::from(frame).slice(4..)).unwrap();
    assert_eq!((id, read), (1, answer));
}

#[test]
fn what_is_null_in_some_versions_is_empty_in_the_others() {
    let answer = JoinGroupResponse::default();
    for version in [6, 7] {
        let frame = encode::<JoinGroupRequest>(version, 1, &answer).join().unwrap();
        let (_, read) =
            decode_response::<JoinGroupRequest>(version, Bytes::from(frame).slice(4..)).unwrap();
        let expected = (version == 6).then(|| "".into());
        assert_eq!(read.protocol_name, expected, "version {version}");
    }
}
