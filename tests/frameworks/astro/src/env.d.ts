declare namespace App {
  interface Locals {
    runtime: { env: { GREETING: string; DB: any; KV: any; BUCKET: any } };
  }
}
