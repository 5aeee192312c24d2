import { kvRead } from "../lib.js";

export const onRequest = ({ env }) => kvRead(env);
