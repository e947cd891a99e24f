export const options = { vus: 1, duration: '3s' };

export default function () {
  let x = 0;
  for (let i = 0; i < 20000; i++) x = (x * 31 + i) % 1000003;
  return x;
}
