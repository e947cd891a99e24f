import http from 'k6/http';
import { sleep } from 'k6';

export default function () {
  // Spread over the five seconds, so that 10,000 VUs make 2,000 requests a second.
  const start = Math.random() * 5;
  sleep(start);
  http.get(__ENV.TARGET);
  sleep(5 - start);
}
