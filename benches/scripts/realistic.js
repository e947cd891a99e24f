import http from 'k6/http';
import { check, group } from 'k6';
import { Trend } from 'k6/metrics';

const size = new Trend('size');

export default function () {
  group('page', () => {
    const answer = http.get(__ENV.TARGET, { tags: { kind: 'json', name: 'page' } });
    const body = answer.json();
    check(answer, {
      'status is 200': (r) => r.status === 200,
      'has a message': () => body.message.length > 10,
    });
    size.add(answer.body.length, { kind: 'json' });
  });
}
