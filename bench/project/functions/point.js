import { point } from "../lib.js";

export const onRequest = ({ env }) => point(env);
