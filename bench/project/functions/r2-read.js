import { r2Read } from "../lib.js";

export const onRequest = ({ env }) => r2Read(env);
