import { d1Read } from "../lib.js";

export const onRequest = ({ env }) => d1Read(env);
