import http from 'k6/http';
import { sleep } from 'k6';
// Made by benches/engine/bundles.sh.
import work from '../engine/bundles/small.js';

export default function () {
  work();
  http.get(__ENV.TARGET);
  sleep(10);
}
