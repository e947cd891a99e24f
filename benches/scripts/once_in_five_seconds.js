import http from 'k6/http';
import { sleep } from 'k6';

// 2,000 requests a second, by as many VUs as the command line says.
const pause = Number(__ENV.VUS) / 2000;

export default function () {
  const start = Math.random() * pause;
  sleep(start);
  http.get(__ENV.TARGET);
  sleep(pause - start);
}
