import { hello } from "../lib.js";

export const onRequest = () => hello();
