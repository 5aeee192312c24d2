declare namespace App {
  interface Platform {
    env: { GREETING: string; DB: any; KV: any; BUCKET: any };
  }
}
