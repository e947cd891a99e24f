import http from 'k6/http';

const body = 'x'.repeat(10240);
const parameters = { headers: { 'Content-Type': 'text/plain' } };

export default function () {
  http.post(__ENV.TARGET, body, parameters);
}
