import { kvWrite } from "../lib.js";

export const onRequest = ({ env }) => kvWrite(env);
