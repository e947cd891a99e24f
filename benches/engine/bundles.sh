#!/bin/sh
# Makes the two script bundles that the measurements load: bundles/small.js (papaparse + dayjs)
# and bundles/large.js (faker with the English locale + lodash + crypto-js), each one ES module
# with a default export. Needs node and npm; nothing of what it makes is committed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$here/bundles"
cd "$here/bundles"
cat > package.json <<'JSON'
{
  "private": true,
  "dependencies": {
    "@faker-js/faker": "9.9.0",
    "crypto-js": "4.2.0",
    "dayjs": "1.11.23",
    "esbuild": "0.28.2",
    "lodash": "4.18.1",
    "papaparse": "5.7.1"
  }
}
JSON
npm install --no-audit --no-fund --silent

cat > small-entry.js <<'JS'
import Papa from "papaparse";
import dayjs from "dayjs";
export default function () {
  const rows = Papa.parse("name,day\nann,2026-01-02\nbob,2026-02-03\n", { header: true }).data;
  return rows.filter((r) => r.day).map((r) => dayjs(r.day).add(1, "day").format("DD.MM.YYYY")).join();
}
JS
cat > large-entry.js <<'JS'
import { faker } from "@faker-js/faker/locale/en";
import _ from "lodash";
import CryptoJS from "crypto-js";
export default function () {
  faker.seed(7);
  const names = _.times(3, () => faker.person.fullName());
  return CryptoJS.SHA256(_.sortBy(names).join()).toString();
}
JS
for kind in small large; do
  minify=
  [ $kind = small ] && minify=--minify-whitespace
  # Users' bundles are mostly not minified; the small one loses its comments and indentation.
  node_modules/.bin/esbuild "$kind-entry.js" --bundle --format=esm --target=es2020 \
    --platform=neutral --main-fields=main,module --conditions=import --define:process.env.NODE_ENV='"production"' \
    --external:crypto --external:stream --log-level=error $minify --outfile="$kind.js"
done
ls -l small.js large.js
