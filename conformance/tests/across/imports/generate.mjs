// What npm's packages store of keys, and what node's crypto makes of them.
import { createHash, createHmac, randomBytes } from "node:crypto";
import { apiKey } from "@better-auth/api-key";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";

const keys = [];

const db = { user: [], session: [], account: [], verification: [], apikey: [] };
const auth = betterAuth({
  database: memoryAdapter(db),
  secret: randomBytes(32).toString("hex"),
  baseURL: "http://localhost",
  logger: { disabled: true },
  emailAndPassword: { enabled: true },
  plugins: [apiKey()],
});
const body = { email: "a@example.com", password: "a long password", name: "a" };
const { user } = await auth.api.signUpEmail({ body });
for (const prefix of [undefined, "acme_"]) {
  const made = await auth.api.createApiKey({ body: { userId: user.id, name: "k", prefix } });
  if (!(await auth.api.verifyApiKey({ body: { key: made.key } })).valid) throw new Error("better-auth refuses its own key");
  const row = db.apikey.find((row) => row.id === made.id);
  keys.push({ from: "better-auth 1.5.6", method: "sha256", key: made.key, hash: row.key });
}

// Unkey: the base64 of the SHA-256 of the whole key.
for (let n = 0; n < 2; n++) {
  const key = `acme_${randomBytes(16).toString("hex")}`;
  keys.push({ from: "Unkey", method: "sha256", key, hash: createHash("sha256").update(key).digest("base64") });
}

// A service of one's own: HMAC with a secret of the environment.
const secret = "a secret of 26 characters!";
for (const encoding of ["hex", "base64", "base64url"]) {
  const key = `ak-${randomBytes(24).toString("base64url")}`;
  const hash = createHmac("sha256", secret).update(key).digest(encoding);
  keys.push({ from: `createHmac, ${encoding}`, method: "hmac:elsewhere", secret, key, hash });
}

console.log(JSON.stringify(keys));
