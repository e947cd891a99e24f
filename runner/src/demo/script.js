// The script of `volley demo`: a page, an API call, checks and a threshold.
import http from 'k6/http';
import { check, group, sleep } from 'k6';
import { Trend } from 'k6/metrics';

const size = new Trend('page_size');

export const options = {
  vus: 10,
  duration: '10s',
  thresholds: {
    http_req_failed: ['rate<0.01'],
    http_req_duration: ['p(95)<500'],
  },
};

export default function () {
  group('visit', () => {
    const page = http.get(`${__ENV.TARGET}/`);
    size.add(page.body.length);
    check(page, {
      'status is 200': (r) => r.status === 200,
      'says hello': (r) => r.json('message') === 'hello',
    });
  });
  http.get(`${__ENV.TARGET}/delay/5`, { tags: { name: 'slow page' } });
  sleep(0.1);
}
